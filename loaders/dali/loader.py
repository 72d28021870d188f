"""The DALI loader: our order, labels and augmentation; DALI's decoding, warping and coloring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from nvidia import dali
from nvidia.dali.tensors import TensorCPU
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from loaders.augment import Augmentation
from loaders.base import Indices, Loader
from loaders.batch import PoseBatch
from loaders.codecs import Bytes, png_bits, stored_size
from loaders.dali.graph import GraphSpec, ImageSpec, dali_matrices, decode_graph, mapped_graph
from loaders.errors import InputError
from loaders.format.shard_set import image_data, image_members

_MIB: Final = 2**20

_BLOCK: Final = 128
"""Samples that go through the graph together, as whole batches (samples). A run ends with its slowest thread, and costs
the host the same however small it is; so small batches are cut out of a larger run."""

_BLOCK_BYTES: Final = 64 * _MIB
"""Most memory of a block's decoded images (bytes), unless a single batch needs more."""


@dataclass(frozen=True)
class Fed:
    """A batch on its way through the graph."""

    indices: Indices
    augmentation: Augmentation | None
    inputs: list[Any]


class PipelineError(Exception):
    """DALI's message; the pipeline cannot be used any more."""


class DaliLoader(Loader):
    """Images through one DALI pipeline, on the CPU or on a GPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = image_members(self.shard_set, self.outputs)
        self._spec = GraphSpec(
            images=tuple(self._image(output, member) for output, member in self._members.items()),
            stored=self.shard_set.camera,
            image_size=self.image_size,
            moves=self.augment.moves,
            jitters_color=self.augment.jitters_color,
            device="gpu" if self.device.type == "cuda" else "cpu",
            hw_decoder_load=self.config.hw_decoder_load,
            planes=self.dtype == "float32",
            device_memory_padding=self.config.device_memory_padding * _MIB,
            host_memory_padding=self.config.host_memory_padding * _MIB,
        )
        decoded = max(1, len(self._members)) * self._spec.stored.width * self._spec.stored.height * 3
        self._at_once = max(1, min(_BLOCK, _BLOCK_BYTES // decoded) // self.config.batch_size)
        """Batches that go through the graph together."""
        self._upcoming: Iterator[Indices] = iter(())
        self._fed: deque[Fed] = deque()
        # a GPU may still read the inputs of the batch it just handed out
        self._recent: deque[Fed] = deque(maxlen=self.config.prefetch)
        self._pipeline: Any = None

    def close(self) -> None:
        """Free the pipeline, its threads and the mappings."""
        self._pipeline = None
        self._fed.clear()
        self._recent.clear()
        super().close()

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        done = 0
        while done < len(plan):
            usable = [self._usable(indices) for indices in plan[done:]]
            blocks = [usable[first : first + self._at_once] for first in range(0, len(usable), self._at_once)]
            wholes = [np.concatenate(block) for block in blocks]
            try:
                self._begin([indices for indices in wholes if len(indices)])
                for block, indices in zip(blocks, wholes, strict=True):
                    batch = self._next_batch() if len(indices) else self._labels(indices, None)
                    for part in batch.split([len(indices) for indices in block]):
                        yield part
                        done += 1
            except PipelineError as error:
                self._pipeline = None
                self._find_bad(str(error))
            finally:
                self._end()

    def _begin(self, batches: list[Indices]) -> None:
        """Get ready to load these batches. Raises PipelineError."""
        self._upcoming = iter(batches)
        if self._pipeline is None:
            self._pipeline = self._build(mapped_graph, self._next_inputs, self._spec)

    def _next_batch(self) -> PoseBatch:
        """Return the next batch. Raises PipelineError."""
        outputs = self._run(self._pipeline)
        # on its way until its images have been looked at: what is wrong with them is looked for in there
        fed = self._fed[0]
        labels, outputs = self._split(fed, outputs)
        images = self._images(outputs, len(labels))
        self._recent.append(self._fed.popleft())
        return PoseBatch(**{**vars(labels.to(self.device)), **images})

    def _split(self, fed: Fed, outputs: Sequence[Any]) -> tuple[PoseBatch, Sequence[Any]]:
        """Return the labels of a batch, and those outputs of the graph that are images. Raises PipelineError."""
        return self._labels(fed.indices, fed.augmentation), outputs

    def _end(self) -> None:
        """Take what is left in the pipeline out of it, so that the next epoch begins empty."""
        self._upcoming = iter(())
        if self._pipeline is not None:
            try:
                while True:
                    self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()
            except RuntimeError:  # what nobody waits for may be undecodable
                self._pipeline = None
        self._fed.clear()

    def _next_inputs(self) -> tuple[Any, ...]:
        """Return a batch as the graph takes it; DALI calls this when it has room for one."""
        indices = next(self._upcoming)
        augmentation = self._draw(indices)
        fed = Fed(indices, augmentation, [])
        # on its way even if what it needs cannot be had: what is wrong is looked for in there
        self._fed.append(fed)
        fed.inputs.extend([*self._image_inputs(indices), *self._matrices(augmentation)])
        return tuple(fed.inputs)

    def _image_inputs(self, indices: Indices) -> list[Any]:
        """Return a list of arrays for each image of the graph. Raises PipelineError if one has no header."""
        inputs = []
        for member, image in zip(self._members.values(), self._spec.images, strict=True):
            stored = image_data(self.shard_set, indices, member)
            if image.encoded and any(self._fault_of_header(data, member) for data in stored):
                raise PipelineError("an image's header is wrong")
            # DALI would wrap each array in turn, with many questions about what it is
            inputs.append([TensorCPU(data) for data in stored])
        return inputs

    def _fault_of_header(self, data: Bytes, member: str) -> str:
        """Return what is wrong with an image's header; empty if it is as it should be."""
        try:
            height, width = stored_size(data, member)
        except ValueError as error:
            return f"cannot be decoded ({error})"
        camera = self.shard_set.camera
        if (height, width) == (camera.height, camera.width):
            return ""
        return f"has {width}x{height} pixels, not {camera.width}x{camera.height}"

    def _matrices(self, augmentation: Augmentation | None) -> list[Any]:
        """Return what the graph needs beside the images: warp and color matrices, where it uses them."""
        matrices = []
        if augmentation is not None and self._spec.moves:
            matrices.append(dali_matrices(augmentation.warp(self.camera)))
        if augmentation is not None and self._spec.jitters_color:
            matrices.append(augmentation.color)
        return matrices

    def _images(self, outputs: Sequence[Any], n: int) -> dict[str, Tensor]:
        """Return the first n images (n, 3, H, W) each."""
        tensors = (from_dlpack(output.as_tensor())[:n] for output in outputs)
        return {
            name: tensor if tensor.is_floating_point() else tensor.permute(0, 3, 1, 2)
            for name, tensor in zip(self._members, tensors, strict=True)
        }

    def _build(self, graph: Any, *arguments: Any, batch_size: int | None = None) -> Any:
        """Return a pipeline. Raises PipelineError, or InputError if DALI cannot use the GPU."""
        try:
            pipeline = graph(
                *arguments,
                batch_size=batch_size or self._at_once * self.config.batch_size,
                num_threads=self.config.thread_count(),
                device_id=(self.device.index or 0) if self.device.type == "cuda" else None,
                prefetch_queue_depth=self.config.prefetch,
            )
            pipeline.build()
        except RuntimeError as error:
            reason = _reason(error)
            if "cuda" in reason.lower():  # no sample's fault
                raise InputError(
                    f"DALI {dali.__version__} cannot use the GPU ({reason}): update the NVIDIA driver, install the "
                    "nvidia-dali-cuda120 of older drivers instead of nvidia-dali-cuda130, or give --data.backend torch"
                ) from error
            raise PipelineError(reason) from error
        return pipeline

    def _run(self, pipeline: Any) -> Any:
        """Run a pipeline once. Raises PipelineError."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            return pipeline.run(stream)
        except RuntimeError as error:
            raise PipelineError(_reason(error)) from error

    def _find_bad(self, reason: str) -> None:
        """Reject the samples in the pipeline whose images cannot be used. Raises InputError if there are none."""
        fed = sorted({int(index) for fed in self._fed for index in fed.indices})
        members = [pair for pair in zip(self._members.values(), self._spec.images, strict=True) if pair[1].encoded]
        images = [(index, member, image) for index in fed for member, image in members]
        # headers first: decoding is slow one by one, and without a header not even safe
        for find in (self._header_fault, self._decoding_fault):
            faults = [(index, member, find(index, member, image)) for index, member, image in images]
            if any(fault for _, _, fault in faults):
                break
        else:
            raise InputError(f"DALI failed: {reason}")
        for index, member, fault in faults:
            if fault:
                self._reject(index, member, fault)

    def _header_fault(self, index: int, member: str, _: ImageSpec) -> str:
        return self._fault_of_header(self._encoded(index, member), member)

    def _decoding_fault(self, index: int, member: str, image: ImageSpec) -> str:
        """Return why an image cannot be used, by decoding it alone; empty if it can."""
        data = self._encoded(index, member)
        try:
            self._run(self._build(decode_graph, lambda: [data], image, self._spec, batch_size=1))
        except PipelineError as error:
            return f"cannot be decoded ({error})"
        return ""

    def _encoded(self, index: int, member: str) -> Bytes:
        """Return the bytes of one sample's member."""
        return self.shard_set.member(index, member)

    def _image(self, output: str, member: str) -> ImageSpec:
        if output == "worldp":
            return ImageSpec(encoded=True, bits=png_bits(self._encoded(0, member)), smooth=False)
        return ImageSpec(encoded=not member.endswith(".npy"))


def _reason(error: RuntimeError) -> str:
    """Return what went wrong out of DALI's message, which tells of operators and of C++ first."""
    text = str(error).rpartition("encountered:")[2].strip()
    return " ".join(text.partition("C++ context")[0].partition("Current pipeline object")[0].split()).rstrip(" :")
