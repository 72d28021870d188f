"""The DALI loader: our order, labels and augmentation; DALI's decoding, warping and color jitter."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from nvidia.dali.tensors import TensorCPU
from torch.utils.dlpack import from_dlpack

from loaders.augment import Augmentation
from loaders.base import Indices, Loader, channels_first
from loaders.batch import PoseBatch
from loaders.codecs import Bytes, png_bits, stored_size
from loaders.dali.graph import GraphSpec, ImageSpec, dali_matrices, decode_graph
from loaders.dali.pipeline import PipelineError, Pipelines
from loaders.dali.sources import MappedSource, SequentialSource
from loaders.errors import InputError
from loaders.format.shard_set import image_data

_MIB: Final = 2**20

_BLOCK: Final = 128
"""Samples that go through the graph together, as whole batches (samples). A run ends with its slowest thread, and costs
the host the same however small it is; so small batches are cut out of a larger run."""

_BLOCK_BYTES: Final = 64 * _MIB
"""Most memory of a block's decoded images (bytes), unless a single batch needs more."""


@dataclass(frozen=True)
class _InFlight:
    """A batch on its way through the graph."""

    indices: Indices
    augmentation: Augmentation | None
    inputs: list[Any]
    """What the graph reads in place."""


class DaliLoader(Loader):
    """Images through one DALI graph, on the CPU or on a GPU; a source says where the samples come from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config, stored = self.config, self.shard_set.camera
        decoded = max(1, len(self.members)) * stored.width * stored.height * 3
        self._at_once = max(1, min(_BLOCK, _BLOCK_BYTES // decoded) // config.batch_size)
        """Batches that go through the graph together."""
        self._pipelines = Pipelines(
            self._at_once * config.batch_size, config.thread_count(), config.prefetch, self.device
        )
        self._source: MappedSource | SequentialSource = MappedSource(self.shard_set, self._pipelines)
        if config.access == "sequential":
            self._source = SequentialSource(self.shard_set, tuple(self.members.values()), self._pipelines)
        self._spec = GraphSpec(
            images=tuple(self._image_spec(output, member) for output, member in self.members.items()),
            stored=stored,
            image_size=self.image_size,
            # DALI drops inputs that no image needs, and asks for none if all are dropped
            moves=self.augment.moves and bool(self.members),
            jitters_color=self.augment.jitters_color and "image" in self.members,
            device="gpu" if self.device.type == "cuda" else "cpu",
            hw_decoder_load=config.hw_decoder_load,
            normalize=self.dtype == "float32",
            device_memory_padding=config.device_memory_padding * _MIB,
            host_memory_padding=config.host_memory_padding * _MIB,
        )
        self._upcoming: Iterator[Indices] = iter(())
        self._in_flight: deque[_InFlight] = deque()
        # a GPU may still read the inputs of the batch it just delivered
        self._recent: deque[_InFlight] = deque(maxlen=config.prefetch)

    def close(self) -> None:
        """Free the pipeline, its threads and the mappings."""
        self._source.close()
        self._in_flight.clear()
        self._recent.clear()
        super().close()

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        done = 0
        while done < len(plan):
            usable = [self._usable(indices) for indices in plan[done:]]
            blocks = [usable[first : first + self._at_once] for first in range(0, len(usable), self._at_once)]
            wholes = [np.concatenate(block) for block in blocks]
            started = [indices for indices in wholes if len(indices)]
            self._upcoming = iter(started)
            try:
                self._source.start(self._spec, started, self._feed)
                for block, indices in zip(blocks, wholes, strict=True):
                    batch = self._next_batch() if len(indices) else self._labels(indices, None)
                    for part in batch.split([len(indices) for indices in block]):
                        yield part
                        done += 1
            except PipelineError as error:
                self._source.pipeline = None
                self._reject_bad(str(error))
            finally:
                self._upcoming = iter(())
                self._source.stop()
                self._in_flight.clear()

    def _next_batch(self) -> PoseBatch:
        """Return the next batch. Raises PipelineError."""
        if not (self._source.fed or self._spec.takes_matrices):
            self._feed()  # DALI asks for nothing
        outputs = self._pipelines.run(self._source.pipeline)
        # it stays in flight until its images have been looked at, since bad samples are looked for there
        batch = self._in_flight[0]
        (pose, meta), outputs = self._source.split(batch.indices, outputs)
        labels = self._label_batch(pose, meta, batch.indices, batch.augmentation).to(self.device)
        tensors = [channels_first(from_dlpack(output.as_tensor())[: len(labels)]) for output in outputs]
        self._recent.append(self._in_flight.popleft())
        return dataclasses.replace(labels, **dict(zip(self.members, tensors, strict=True)))

    def _feed(self) -> tuple[Any, ...]:
        """Return a batch as the graph takes it; DALI calls this when it has room for one."""
        indices = next(self._upcoming)
        augmentation = self._draw(indices)
        batch = _InFlight(indices, augmentation, [])
        # in flight even if its inputs cannot be had, since bad samples are looked for there
        self._in_flight.append(batch)
        if self._source.fed:
            batch.inputs.extend(self._stored_images(indices, member) for member in self.members.values())
        rows = len(indices) if self._source.fed else self._pipelines.batch_size
        if augmentation is not None and self._spec.moves:
            batch.inputs.append(np.resize(dali_matrices(augmentation.warp(self.camera)), (rows, 2, 3)))
        if augmentation is not None and self._spec.jitters_color:
            batch.inputs.append(np.resize(augmentation.color, (rows, 3, 4)))
        return tuple(batch.inputs)

    def _stored_images(self, indices: Indices, member: str) -> list[TensorCPU]:
        """Return images as they are stored. Raises PipelineError if one has no header."""
        stored = image_data(self.shard_set, indices, member)
        if not member.endswith(".npy") and any(self._header_fault(data, member) for data in stored):
            raise PipelineError("an image's header is wrong")
        # DALI would wrap each array in turn, with many questions about what it is
        return [TensorCPU(data) for data in stored]

    def _image_spec(self, output: str, member: str) -> ImageSpec:
        if output == "worldp":
            return ImageSpec(encoded=True, bits=png_bits(self._source.encoded(0, member)), smooth=False)
        return ImageSpec(encoded=not member.endswith(".npy"))

    def _reject_bad(self, reason: str) -> None:
        """Reject the samples in the pipeline whose images cannot be used. Raises InputError if there are none."""
        # a stream decodes ahead of what was fed
        while len(self._in_flight) <= self.config.prefetch and (indices := next(self._upcoming, None)) is not None:
            self._in_flight.append(_InFlight(indices, None, []))
        in_flight = sorted({int(index) for batch in self._in_flight for index in batch.indices})
        members = [member for member in self.members.values() if not member.endswith(".npy")]
        # headers first: decoding is slow one by one, and without a header not even safe
        for fault_of in (self._header_fault, self._decoding_fault):
            faults = [
                (index, member, fault)
                for index in in_flight
                for member in members
                if (fault := fault_of(self._source.encoded(index, member), member))
            ]
            for index, member, fault in faults:
                self._reject(index, member, fault)
            if faults:
                return
        raise InputError(f"DALI failed: {reason}")

    def _header_fault(self, data: Bytes, member: str) -> str:
        """Return what is wrong with an image's header; empty if it is as it should be."""
        try:
            return self._size_fault(*stored_size(data, member))
        except ValueError as error:
            return f"cannot be decoded ({error})"

    def _decoding_fault(self, data: Bytes, member: str) -> str:
        """Return why an image cannot be used, by decoding it alone; empty if it can."""
        image = dict(zip(self.members.values(), self._spec.images, strict=True))[member]
        try:
            self._pipelines.run(self._pipelines.build(decode_graph, lambda: [data], image, self._spec, batch_size=1))
        except PipelineError as error:
            return f"cannot be decoded ({error})"
        return ""
