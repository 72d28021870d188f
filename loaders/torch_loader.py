"""Images without DALI: threads decode into the batch in place."""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from loaders.augment import Augmentation
from loaders.base import READ_AHEAD, Blocks, Indices, Loader, channels_first
from loaders.codecs import PngLayout, decode_exact, decode_stored
from loaders.faults import Fault, first_layout, layout_fault, load_rotations, size_fault
from loaders.format.sample import EXACT_MEMBERS, ROT
from loaders.format.shard_set import image_data
from loaders.nearest import NearestPixels
from loaders.planes import normalize
from loaders.preprocessing import cut_window, resize
from loaders.stage_times import Crew
from loaders.system.memory import Addresses, gather_past_cache
from loaders.system.threads import run_ahead

_Pixels = NDArray[Any]


class _Row(NamedTuple):
    """One image to be made."""

    sample: int
    output: str
    data: _Pixels
    """Encoded bytes (n,), or the image (H, W, 3) itself where it is stored raw."""
    out: _Pixels
    """(H, W, 3) or (3, H, W), its row of the batch."""
    warp: Any
    """(2, 3) from the loaded image's pixels to the augmented image's; None if they are the same."""
    color: Any
    """(3, 4), see `Augmentation.color`; None if colors stay."""


_Step = Callable[[_Pixels, _Pixels | None, _Row], _Pixels]
"""From an image to an image, which is written into the second argument if there is one."""


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are filling."""

    indices: Indices
    augmentation: Augmentation | None
    images: dict[str, _Pixels]
    """(B, H, W, C) per output, (B, 3, H, W) if float32."""
    work: list[Future[list[Fault]]]
    rot: torch.Tensor | None
    faults: list[Fault]
    """Of the rotations."""


class TorchLoader(Loader):
    """Images by libjpeg-turbo and OpenCV, which release the interpreter's lock while they work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # on a CPU all work is done in threads already: one more would pass batches on, and want Python's lock for that
        self.fetches_ahead = self.device.type == "cuda"
        # a GPU copies from pinned memory by itself; when a batch is handed over its copy is done, see `Loader._fetch`
        pinned = self.device.type == "cuda" and torch.cuda.is_available()
        self._layouts = {
            member: first_layout(self.shard_set, member, functools.partial(self.shard_set.member, name=member))
            for member in self.members.values()
            if member in EXACT_MEMBERS
        }
        self._memory = {output: RecycledArrays(*self._shape_and_dtype(output), pinned) for output in self.members}
        self._steps = {output: self._steps_of(output) for output in self.members}
        self._in_place = {output: not steps for output, steps in self._steps.items()}
        """Whether images are decoded into the batch itself."""
        self._copied = {
            output: in_place and self.members[output] not in self.encoded for output, in_place in self._in_place.items()
        }
        """Whether nothing is done to images but to copy them."""
        self._fast_dct = self.config.fast_dct and self.training
        self._threads = self.config.thread_count()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._own = threading.local()
        # samples are what runs in parallel; OpenCV's own threads would compete with ours, and do not survive a fork
        cv2.setNumThreads(1)

    def close(self) -> None:
        """Stop the threads and drop the mappings."""
        super().close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _crews(self) -> tuple[Crew, ...]:
        threads = self.config.thread_count()
        if self.encoded:
            return Crew(("read",)), Crew(("decode", "warp"), threads), *super()._crews()
        return Crew(("raw",), threads), *super()._crews()

    def _shape_and_dtype(self, output: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of a batch's images as they are filled: (B, H, W, 3), or (B, 3, H, W) if float32."""
        n, size = self.batch_frames, self.image_size
        if output == "image" and self.dtype == "float32":
            return (n, 3, size, size), np.dtype(np.float32)
        layout = self._layouts.get(self.members[output], PngLayout(3, 8))
        return (n, size, size, layout.channels), np.dtype(f"uint{layout.bits}")

    def _steps_of(self, output: str) -> list[_Step]:
        """Return what is done to a decoded image; a step with nothing to do is absent."""
        window, size, steps = self.shard_set.window, (self.image_size, self.image_size), list[_Step]()
        if self.members[output] in self._layouts:
            nearest = NearestPixels(window, self.image_size)
            if self.augment.moves or not nearest.stay:
                steps.append(lambda image, out, row: nearest.move(image, row.warp, out))
            return steps
        if self.shard_set.manifest.preprocessing.format == "source":
            steps.append(lambda image, out, _: _filled(cut_window(image, window), out))
        if window[2] != self.image_size:
            steps.append(lambda image, out, _: resize(image, self.image_size, out))
        if self.augment.moves:
            steps.append(lambda image, out, row: cv2.warpAffine(image, row.warp, size, out, flags=cv2.INTER_LINEAR))
        if self.augment.jitters_color:
            steps.append(lambda image, out, row: cv2.transform(image, row.color, out))
        if self.dtype == "float32":
            steps.append(lambda image, out, row: normalize(np.ascontiguousarray(image), row.out))
        return steps

    def _load(self, plan: list[Indices]) -> Blocks:
        pending: deque[_Pending] = deque()
        upcoming = self._read(plan)
        if self.encoded:
            upcoming = run_ahead(upcoming, READ_AHEAD, "read")
        try:
            for _ in plan:
                while len(pending) < self.config.prefetch and (indices := next(upcoming, None)) is not None:
                    pending.append(self._submit(indices))
                if not self.fetches_ahead:
                    self.stage_times.asked(all(future.done() for future in pending[0].work))
                ready = self._finished(pending.popleft())
                with self.stage_times.timed("labels"):
                    labels = self._labels(ready.indices, ready.augmentation)
                images = {output: channels_first(torch.from_numpy(filled)) for output, filled in ready.images.items()}
                yield [self._on_device(dataclasses.replace(labels, rot=ready.rot, **images))]
        finally:
            upcoming.close()
            work = [future for batch in pending for future in batch.work]
            # memory must not be handed out again while a thread writes into it
            wait([future for future in work if not future.cancel()])

    def _read(self, plan: list[Indices]) -> Generator[Indices, None, None]:
        """Yield the batches of a plan, whose members are then in memory."""
        for indices in plan:
            with self.stage_times.timed("read"):
                self._read_ahead(indices)
            yield indices

    def _submit(self, indices: Indices) -> _Pending:
        """Let all threads fill a batch; each takes the next row when it is done with one."""
        indices = self._usable(indices)
        with self.stage_times.timed("labels"):
            augmentation = self._draw(indices)
            warps = augmentation.warp(self.camera) if augmentation and self.augment.moves else [None] * len(indices)
            colors = augmentation.color if augmentation and self.augment.jitters_color else [None] * len(indices)
        images = {output: memory.take(len(indices)) for output, memory in self._memory.items()}
        rows, work = list[_Row](), list[Future[list[Fault]]]()
        for output, filled in images.items():
            if self._copied[output]:
                sources = self.shard_set.tails(indices, self.members[output], math.prod(filled.shape[1:]))
                parts = (np.array_split(rows_of, self._threads) for rows_of in (sources, filled))
                work += [self._pool.submit(self._copy, *part) for part in zip(*parts, strict=True)]
                continue
            # all at once: finding them one by one would cost a thread as much as copying one
            stored = image_data(self.shard_set, indices, self.members[output])
            columns = zip(indices.tolist(), stored, filled, warps, colors, strict=True)
            rows += [_Row(index, output, *rest) for index, *rest in columns]
        if rows:
            left = iter(rows)
            work += [self._pool.submit(self._fill, left) for _ in range(self._threads)]
        rot, faults = None, list[Fault]()
        if self.reads_rot:
            rot, faults = load_rotations(indices, self.shard_set.read(indices, ROT), self.skeleton.joints)
        return _Pending(indices, augmentation, images, work, rot, faults)

    def _finished(self, batch: _Pending) -> _Pending:
        """Wait for a batch; one with undecodable samples is made again without them."""
        faults = [*batch.faults, *(fault for future in batch.work for fault in future.result())]
        if not faults:
            return batch
        for fault in sorted(faults):
            self._reject(*fault)
        return self._finished(self._submit(batch.indices))

    def _copy(self, sources: Addresses, images: _Pixels) -> list[Fault]:
        """Copy raw images, whose size was checked; none can be wrong."""
        began = time.perf_counter()
        gather_past_cache(sources, images)
        self.stage_times.add("raw", time.perf_counter() - began)
        return []

    def _fill(self, rows: Iterator[_Row]) -> list[Fault]:
        """Make images until none is left; return what could not be made."""
        faults = []
        began, self._own.decoding = time.perf_counter(), 0.0
        for row in rows:
            try:
                self._make(row)
            except ValueError as error:
                faults.append((row.sample, self.members[row.output], str(error)))
        spent = time.perf_counter() - began
        if self.encoded:
            self.stage_times.add("decode", self._own.decoding)
            self.stage_times.add("warp", spent - self._own.decoding)
        else:
            self.stage_times.add("raw", spent)
        return faults

    def _make(self, row: _Row) -> None:
        """Decode an image and take all steps; the last one writes into the batch."""
        steps, in_place = self._steps[row.output], self._in_place[row.output]
        image = self._decoded(row, row.out if in_place else self._scratch())
        for step in steps:
            image = step(image, row.out if step is steps[-1] else None, row)
        if not (steps or np.may_share_memory(image, row.out)):
            row.out[:] = image

    def _scratch(self) -> _Pixels:
        """Return this thread's memory for a decoded image; small enough to stay in its core's cache."""
        if not hasattr(self._own, "scratch"):
            camera = self.shard_set.camera
            self._own.scratch = np.empty((camera.height, camera.width, 3), np.uint8)
        return self._own.scratch  # type: ignore[no-any-return]

    def _decoded(self, row: _Row, memory: _Pixels) -> _Pixels:
        """Return a stored image (H, W, C), a JPEG's in ``memory``.

        Raises:
            ValueError: it cannot be decoded, or has another size or other pixels than it should.
        """
        image, member, fault = row.data, self.members[row.output], ""
        if image.ndim == 1:  # raw images are loaded too quickly to look at the clock for each
            began = time.perf_counter()
            try:
                if layout := self._layouts.get(member):
                    fault = layout_fault(image, layout)
                image = decode_exact(image) if layout else decode_stored(image, member, memory, fast_dct=self._fast_dct)
            except ValueError as error:
                raise ValueError(f"cannot be decoded ({error})") from None
            finally:
                self._own.decoding += time.perf_counter() - began
        if fault := size_fault(self.shard_set.camera, *image.shape[:2]) or fault:
            raise ValueError(fault)
        return image


def _filled(image: _Pixels, out: _Pixels | None) -> _Pixels:
    """Return an image; in ``out`` if that is given."""
    if out is None:
        return image
    out[:] = image
    return out


class RecycledArrays:
    """Hands out arrays of one shape and type, and their memory again when nobody holds them any more.

    The C library gives large blocks back to the system at once; faulting their pages in anew costs as much as decoding.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], pinned: bool = False) -> None:
        self._shape = shape
        self._dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        self._pinned = pinned
        self._free: list[NDArray[Any]] = []

    def take(self, n: int) -> NDArray[Any]:
        """Return the first ``n`` rows of an array, not initialized. Tensors made of it keep it taken."""
        memory = self._free.pop() if self._free else self._allocate()
        rows = memory[:n]
        # whatever shares the memory keeps this view alive
        weakref.finalize(rows, self._free.append, memory).atexit = False
        return rows

    def _allocate(self) -> NDArray[Any]:
        return torch.empty(self._shape, dtype=self._dtype, pin_memory=self._pinned).numpy()
