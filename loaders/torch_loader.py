"""The same contract without DALI: threads decode into the batch in place."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loaders.augment import Augmentation
from loaders.base import Indices, Loader
from loaders.batch import PoseBatch
from loaders.buffer_pool import RecycledArrays
from loaders.codecs import decode_stored, png_bits
from loaders.format.shard_set import image_data, image_members
from loaders.preprocessing import resize

_Pixels = NDArray[Any]
_Step = Callable[[_Pixels, _Pixels | None], _Pixels]
"""From an image to an image, into the second argument if there is one."""


@dataclass(frozen=True)
class _Row:
    """One image to be made."""

    index: int
    output: str
    data: _Pixels
    """Encoded bytes (n,), or the image (H, W, 3) itself where it is stored raw."""
    out: _Pixels
    """(H, W, 3) or (3, H, W), its place in the batch."""
    warp: NDArray[np.float64] | None
    color: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Fault:
    """An image that cannot be made."""

    index: int
    member: str
    what: str


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are filling."""

    indices: Indices
    augmentation: Augmentation | None
    images: dict[str, _Pixels]
    """(B, H, W, 3) per output, (B, 3, H, W) if float32."""
    work: list[Future[list[_Fault]]]


class TorchLoader(Loader):
    """Images by libjpeg-turbo and OpenCV, which release the interpreter's lock while they work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = image_members(self.shard_set, self.outputs)
        self._memory = {output: RecycledArrays(*self._form(output)) for output in self._members}
        self._whole = self.shard_set.camera.width == self.shard_set.camera.height
        """Whether stored images are square, so that nothing is cut off."""
        self._threads = self.config.thread_count()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._own = threading.local()
        # samples are what runs in parallel; OpenCV's own threads would compete with ours, and do not survive a fork
        cv2.setNumThreads(1)
        if self.dtype == "float32":
            from loaders.planes import fill_planes  # noqa: PLC0415 - a compiler, slow to import

            self._fill_planes = fill_planes

    def close(self) -> None:
        """Stop the threads and drop the mappings."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        super().close()

    def _form(self, output: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of a batch's images as they are filled: (B, H, W, 3), or (B, 3, H, W) if float32."""
        n, size = self.config.batch_size, self.image_size
        if output == "image" and self.dtype == "float32":
            return (n, 3, size, size), np.dtype(np.float32)
        bits = png_bits(self.shard_set.member(0, self._members[output])) if output == "worldp" else 8
        return (n, size, size, 3), np.dtype(f"uint{bits}")

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        upcoming = iter(plan)
        pending: deque[_Pending] = deque()
        try:
            for _ in plan:
                while len(pending) < self.config.prefetch and (indices := next(upcoming, None)) is not None:
                    pending.append(self._submit(indices))
                ready = self._finished(pending.popleft())
                labels = self._labels(ready.indices, ready.augmentation)
                images = {output: _batch_tensor(filled) for output, filled in ready.images.items()}
                yield PoseBatch(**{**vars(labels), **images}).to(self.device)
        finally:
            work = [future for batch in pending for future in batch.work]
            # memory must not be handed out again while somebody writes into it
            wait([future for future in work if not future.cancel()])

    def _submit(self, indices: Indices) -> _Pending:
        """Let all threads fill a batch; each takes the next row when it is done with one."""
        indices = self._usable(indices)
        augmentation = self._draw(indices)
        images = {output: memory.take(len(indices)) for output, memory in self._memory.items()}
        warp = None if augmentation is None or not self.augment.moves else augmentation.warp(self.camera)
        color = None if augmentation is None or not self.augment.jitters_color else augmentation.color
        rows = [
            _Row(
                index,
                output,
                data,
                out,
                None if warp is None else warp[row],
                None if color is None or output != "image" else color[row],
            )
            for output, filled in images.items()
            for row, (index, data, out) in enumerate(
                zip(
                    indices.tolist(),
                    # all at once: finding them one by one would cost a thread as much as copying one
                    image_data(self.shard_set, indices, self._members[output]),
                    filled,
                    strict=True,
                )
            )
        ]
        left = iter(rows)
        work = [self._pool.submit(self._fill, left) for _ in range(self._threads)]
        return _Pending(indices, augmentation, images, work)

    def _finished(self, batch: _Pending) -> _Pending:
        """Wait for a batch; one with undecodable samples is made again without them."""
        faults = [fault for future in batch.work for fault in future.result()]
        if not faults:
            return batch
        for fault in sorted(faults, key=lambda fault: fault.index):
            self._reject(fault.index, fault.member, fault.what)
        return self._finished(self._submit(batch.indices))

    def _fill(self, rows: Iterator[_Row]) -> list[_Fault]:
        """Make images until none is left; return what could not be made."""
        faults = []
        for row in rows:
            try:
                self._make(row)
            except ValueError as error:
                faults.append(_Fault(row.index, self._members[row.output], str(error)))
        return faults

    def _make(self, row: _Row) -> None:
        """Decode, crop, resize, warp, color and normalize an image; the last step writes into the batch."""
        planes, steps = row.out.dtype == np.float32, self._steps(row)
        if steps or planes or not self._whole:
            # four values a pixel are written faster than three, but only normalizing takes them
            memory = self._scratch(4 if planes and not steps else 3)
        else:
            memory = row.out
        image = self._stored(row, memory)
        for step in steps:
            image = step(image, row.out if step is steps[-1] and not planes else None)
        if planes:
            self._fill_planes(np.ascontiguousarray(image), row.out)
        elif not (steps or np.may_share_memory(image, row.out)):
            row.out[:] = image

    def _steps(self, row: _Row) -> list[_Step]:
        """Return what is to be done to the stored square; a step with nothing to do is absent."""
        smooth, size, steps = row.output == "image", (self.image_size, self.image_size), list[_Step]()
        if self.crop != self.image_size:
            if smooth:
                steps.append(lambda image, out: resize(image, self.image_size, out))
            else:
                steps.append(lambda image, out: cv2.resize(image, size, out, interpolation=cv2.INTER_NEAREST_EXACT))
        if (warp := row.warp) is not None:
            warping = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
            steps.append(lambda image, out: cv2.warpAffine(image, warp, size, out, flags=warping))
        if (color := row.color) is not None:
            steps.append(lambda image, out: cv2.transform(image, color, out))
        return steps

    def _scratch(self, channels: int) -> _Pixels:
        """Return this thread's memory for a decoded image; small enough to stay in its core's cache."""
        memory: _Pixels | None = getattr(self._own, "scratch", None)
        if memory is None:
            camera = self.shard_set.camera
            memory = self._own.scratch = np.empty((camera.height, camera.width, channels), np.uint8)
        return memory

    def _stored(self, row: _Row, memory: _Pixels) -> _Pixels:
        """Return the center square of a stored image, (H, W, 3) or (H, W, 4), a JPEG's in ``memory``.

        Raises:
            ValueError: it cannot be decoded, or has another size.
        """
        image = row.data
        if image.ndim == 1:
            try:
                image = decode_stored(image, self._members[row.output], memory)
            except ValueError as error:
                raise ValueError(f"cannot be decoded ({error})") from None
        camera = self.shard_set.camera
        if image.shape[:2] != (camera.height, camera.width):
            raise ValueError(f"has {image.shape[1]}x{image.shape[0]} pixels, not {camera.width}x{camera.height}")
        return image[self.crop_top : self.crop_top + self.crop, self.crop_left : self.crop_left + self.crop]


def _batch_tensor(filled: _Pixels) -> Tensor:
    """Return images as (B, 3, H, W)."""
    tensor = torch.from_numpy(filled)
    return tensor if tensor.is_floating_point() else tensor.permute(0, 3, 1, 2)
