"""The DALI loader: our order, labels and augmentation; DALI's decoding, warping and color jitter."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from nvidia.dali import types
from nvidia.dali.tensors import TensorCPU
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from loaders.augment import Augmentation
from loaders.base import READ_AHEAD, Blocks, Indices, Loader, channels_first
from loaders.batch import PoseBatch
from loaders.codecs import Bytes, decode_stored, stored_size
from loaders.dali.graph import GraphSpec, ImageSpec, dali_matrices, decode_graph
from loaders.dali.pipeline import PipelineError, Pipelines
from loaders.dali.sources import MappedSource, SequentialSource
from loaders.errors import InputError
from loaders.faults import first_layout, layout_fault, load_rotations, size_fault
from loaders.format.sample import EXACT_MEMBERS, ROT
from loaders.format.shard_set import image_data
from loaders.nearest import NearestPixels
from loaders.stage_times import Crew
from loaders.system.threads import run_ahead

_MIB: Final = 2**20

_BLOCK: Final = 128
"""Samples that go through the graph together, as whole batches (samples). A run ends with its slowest thread, and costs
the host the same however small it is; so small batches are cut out of a larger run."""

_BLOCK_BYTES: Final = 64 * _MIB
"""Most memory of a block's decoded images (bytes), unless a single batch needs more."""


_Encoded = dict[tuple[int, str], Bytes]
"""Bytes of images, by position in the split and member."""
_Faults = dict[tuple[int, str], str]
"""What is wrong with images, by the same."""


@dataclass(frozen=True)
class _Block:
    """Samples on their way through the graph."""

    indices: Indices
    augmentation: Augmentation | None
    inputs: tuple[Any, ...]
    """What the graph reads in place; nothing if an image has no header."""
    fault: str = ""
    """Why it cannot go through the graph."""


class DaliLoader(Loader):
    """Images through one DALI graph, on the CPU or on a GPU; a source says where the samples come from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config, stored = self.config, self.shard_set.camera
        decoded = max(1, len(self.members)) * stored.width * stored.height * 3
        self._at_once = max(1, min(_BLOCK, _BLOCK_BYTES // decoded) // self.batch_frames)
        """Batches that go through the graph together."""
        self._pipelines = Pipelines(
            self._at_once * self.batch_frames, config.thread_count(), config.prefetch, self.device
        )
        rot = self.reads_rot
        self._source: MappedSource | SequentialSource = MappedSource(self.shard_set, self._pipelines, rot=rot)
        if config.access == "sequential":
            members = tuple(self.members.values())
            self._source = SequentialSource(self.shard_set, members, self._pipelines, rot=rot)
        self._layouts = {
            member: first_layout(self.shard_set, member, functools.partial(self._first, member=member))
            for member in self.members.values()
            if member in EXACT_MEMBERS
        }
        self._nearest = NearestPixels(self.shard_set.window, self.image_size)
        self._spec = GraphSpec(
            images=tuple(
                ImageSpec(encoded=not member.endswith(".npy"), layout=self._layouts.get(member))
                for member in self.members.values()
            ),
            stored=stored,
            window=self.shard_set.window,
            image_size=self.image_size,
            # DALI drops inputs that no image needs, and asks for none if all are dropped
            moves=self.augment.moves and "image" in self.members,
            jitters_color=self.augment.jitters_color and "image" in self.members,
            device="gpu" if self.device.type == "cuda" else "cpu",
            hw_decoder_load=config.hw_decoder_load,
            decodes_on_gpu=config.decodes_on_gpu(self.device),
            fast_dct=config.fast_dct and self.training,
            normalize=self.dtype == "float32",
        )
        self._upcoming = self._prepare([])
        self._fed = 0.0
        """How long the graph has waited for what it is fed with (seconds)."""
        self._in_flight: deque[_Block] = deque()
        self._copied: Any = None
        """DALI's memory of the block that was made last, until `Loader._fetch` has waited for the copies of it."""

    def close(self) -> None:
        """Free the pipeline, its threads and the mappings."""
        super().close()
        self._source.close()

    def _crews(self) -> tuple[Crew, ...]:
        warp = ("warp",) if any(member in EXACT_MEMBERS for member in self.members.values()) else ()
        fetch = ("graph", *warp, "labels", "copy")
        return (Crew(("read",)), Crew(fetch)) if self.encoded else (Crew(("read", *fetch)),)

    def _load(self, plan: list[Indices]) -> Blocks:
        done = 0
        while done < len(plan):
            usable = [self._usable(indices) for indices in plan[done:]]
            blocks = [usable[first : first + self._at_once] for first in range(0, len(usable), self._at_once)]
            wholes = [np.concatenate(block) for block in blocks]
            started = [indices for indices in wholes if len(indices)]
            self._upcoming = self._prepare(started)
            if self.encoded:
                self._upcoming = run_ahead(self._upcoming, READ_AHEAD, "read")
            try:
                with self.stage_times.timed("graph"):
                    self._source.start(self._spec, started, self._feed)
                for block, indices in zip(blocks, wholes, strict=True):
                    batch = self._next_block() if len(indices) else self._labels(indices, None)
                    yield batch.split([len(indices) for indices in block])
                    done += len(block)
            except PipelineError as error:
                self._source.pipeline = None
                self._reject_bad(str(error))
            finally:
                self._upcoming.close()
                self._source.stop(keep=self.training)
                self._in_flight.clear()
                self._copied = None

    def _prepare(self, blocks: list[Indices]) -> Generator[_Block, None, None]:
        """Yield blocks of samples as the graph takes them; their bytes are in memory."""
        for indices in blocks:
            with self.stage_times.timed("read"):
                block = self._block(indices)
            yield block

    def _block(self, indices: Indices) -> _Block:
        augmentation, inputs, fault = self._draw(indices), list[Any](), ""
        if self._source.fed:
            self._read_ahead(indices)
            stored = {member: image_data(self.shard_set, indices, member) for member in self.members.values()}
            if any(self._header_fault(data, member) for member in self.encoded for data in stored[member]):
                fault = "an image's header is wrong"
            else:
                # DALI would wrap each array in turn, with many questions about what it is
                inputs += [[TensorCPU(data) for data in images] for images in stored.values()]
        rows = len(indices) if self._source.fed else self._pipelines.batch_size
        if augmentation is not None and self._spec.moves:
            inputs.append(np.resize(dali_matrices(augmentation.warp(self.camera)), (rows, 2, 3)))
        if augmentation is not None and self._spec.jitters_color:
            inputs.append(np.resize(augmentation.color, (rows, 3, 4)))
        return _Block(indices, augmentation, tuple(inputs), fault)

    def _feed(self) -> tuple[Any, ...]:
        """Return a block as the graph takes it; DALI calls this when it has room for one."""
        began = time.perf_counter()
        block = next(self._upcoming)
        self._fed += time.perf_counter() - began
        # in flight even if it cannot be fed, since bad samples are looked for there
        self._in_flight.append(block)
        if block.fault:
            raise PipelineError(block.fault)
        return block.inputs

    def _next_block(self) -> PoseBatch:
        """Return the samples that leave the graph next. Raises PipelineError."""
        if not (self._source.fed or self._spec.takes_matrices):
            self._feed()  # DALI asks for nothing
        began, fed = time.perf_counter(), self._fed
        outputs = self._pipelines.run(self._source.pipeline)
        self.stage_times.add("graph", time.perf_counter() - began - (self._fed - fed))
        # it stays in flight until its images have been looked at, since bad samples are looked for there
        block = self._in_flight[0]
        (pose, meta, rot_files), outputs = self._source.split(block.indices, outputs)
        with self.stage_times.timed("labels"):
            labels = self._label_batch(pose, meta, block.indices, block.augmentation)
        if self.reads_rot:
            rot, faults = load_rotations(block.indices, rot_files, self.skeleton.joints)
            if faults:
                raise PipelineError("rotations cannot be read")
            labels = dataclasses.replace(labels, rot=rot)
        labels = self._on_device(labels)
        images = {}
        for output, kind, node in zip(self.members, self._spec.images, outputs, strict=True):
            image = self._tensor(node)[: len(labels)]
            images[output] = channels_first(self._moved(image, block.augmentation) if kind.layout else image)
        self._copied = outputs
        self._in_flight.popleft()
        return dataclasses.replace(labels, **images)

    def _moved(self, values: Tensor, augmentation: Augmentation | None) -> Tensor:
        """Return values (n, H, W, C) that are no colors, moved as the graph moves images."""
        warps = augmentation.warp(self.camera) if augmentation and self.augment.moves else None
        if warps is None and self._nearest.stay:
            return values
        with self.stage_times.timed("warp"):
            return self._nearest.move_batch(values, warps)

    def _tensor(self, output: Any) -> Tensor:
        """Return an output of the graph as a tensor."""
        dense = output.as_tensor()
        if self._stream is None:
            return from_dlpack(dense)
        # copied: when torch drops memory of DALI's, DALI waits for all work of the device, which ends the process if a
        # CUDA graph is being captured
        dtype = getattr(torch, np.dtype(types.to_numpy_type(dense.dtype)).name)
        tensor = torch.empty(dense.shape(), dtype=dtype, device=self.device)
        stream = ctypes.c_void_p(self._stream.cuda_stream)
        dense.copy_to_external(ctypes.c_void_p(tensor.data_ptr()), stream, non_blocking=True)
        return tensor

    def _first(self, index: int, member: str) -> Bytes:
        """Return a sample's member before the first epoch."""
        return self._source.encoded(np.array([index]), member)[0]

    def _reject_bad(self, reason: str) -> None:
        """Reject the samples in the pipeline whose images cannot be used. Raises InputError if there are none."""
        # a stream decodes ahead of what was fed
        while len(self._in_flight) <= self.config.prefetch and (block := next(self._upcoming, None)) is not None:
            self._in_flight.append(block)
        in_flight = np.unique(np.concatenate([block.indices for block in self._in_flight]))
        images = {
            (index, member): data
            for member in self.encoded
            for index, data in zip(in_flight.tolist(), self._source.encoded(in_flight, member), strict=True)
        }
        # headers first: without one, decoding is not even safe
        faults = _faults(images, self._header_fault)
        if self.reads_rot:
            _, found = load_rotations(in_flight, self._source.encoded(in_flight, ROT), self.skeleton.joints)
            faults |= {(index, member): fault for index, member, fault in found}
        if not faults:
            # the host is asked first, since an answer of DALI's costs a pipeline
            suspects = {key: images[key] for key in _faults(images, _host_fault)}
            faults = self._decoding_faults(suspects) or self._decoding_faults(images)
        for (index, member), fault in sorted(faults.items()):
            self._reject(index, member, fault)
        if not faults:
            raise InputError(f"DALI failed: {reason}")

    def _header_fault(self, data: Bytes, member: str) -> str:
        """Return what is wrong with an image's header; empty if it is as it should be."""
        try:
            fault = size_fault(self.shard_set.camera, *stored_size(data, member))
            layout = self._layouts.get(member)
            return fault or (layout_fault(data, layout) if layout else "")
        except ValueError as error:
            return f"cannot be decoded ({error})"

    def _decoding_faults(self, images: _Encoded) -> _Faults:
        """Return why DALI cannot decode some of these images."""
        kinds = zip(self.members.values(), self._spec.images, strict=True)
        found: _Faults = {}
        for member, kind in kinds:
            found |= self._faults_by_halves({key: data for key, data in images.items() if key[1] == member}, kind)
        return found

    def _faults_by_halves(self, images: _Encoded, kind: ImageSpec) -> _Faults:
        """Decode images of one kind together, and where that fails each half of them."""
        if not images:
            return {}
        keys, data = list(images), list(images.values())
        try:
            pipeline = self._pipelines.build(decode_graph, lambda: data, kind, self._spec, batch_size=len(data))
            self._pipelines.run(pipeline)
        except PipelineError as error:
            if len(keys) == 1:
                return {keys[0]: f"cannot be decoded ({error})"}
            halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
            first, second = (self._faults_by_halves({key: images[key] for key in half}, kind) for half in halves)
            return first | second
        return {}


def _faults(images: _Encoded, fault_of: Callable[[Bytes, str], str]) -> _Faults:
    return {key: fault for key, data in images.items() if (fault := fault_of(data, key[1]))}


def _host_fault(data: Bytes, member: str) -> str:
    """Return why an image cannot be decoded on the host; empty if it can."""
    try:
        decode_stored(data, member)
    except ValueError as error:
        return str(error)
    return ""
