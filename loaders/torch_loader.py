"""The same contract without DALI: OpenCV threads decode into the batch in place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from loaders.errors import InputError
from loaders.pictures import decode, find_undecodable, picture_data, picture_members, png_bits


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are filling."""

    indices: Indices
    augmentation: Augmentation | None
    pictures: dict[str, Tensor]
    """(B, H, W, 3) per output."""
    work: list[Future[None]]


class TorchLoader(Loader):
    """Pictures by OpenCV, whose decoders and filters release the interpreter lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = picture_members(self.shard_set, self.config.outputs)
        self._dtypes = {
            output: torch.uint16
            if output == "worldp" and png_bits(self.shard_set.member(0, member)) == 16
            else torch.uint8
            for output, member in self._members.items()
        }
        self._pool = ThreadPoolExecutor(self.config.thread_count(), thread_name_prefix="decode")

    def close(self) -> None:
        """Stop the threads and drop the mappings."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        super().close()

    def _load(self, plan: list[Indices]) -> Iterator[PoseBatch]:
        upcoming = iter(plan)
        pending: deque[_Pending] = deque()
        try:
            for _ in plan:
                while len(pending) < self.config.prefetch and (indices := next(upcoming, None)) is not None:
                    pending.append(self._submit(indices))
                ready = pending.popleft()
                for future in ready.work:
                    future.result()
                labels = self._labels(ready.indices, ready.augmentation)
                pictures = {output: tensor.permute(0, 3, 1, 2) for output, tensor in ready.pictures.items()}
                yield PoseBatch(**{**vars(labels), **pictures}).to(self.device)
        finally:
            for batch in pending:
                for future in batch.work:
                    future.cancel()

    def _submit(self, indices: Indices) -> _Pending:
        augmentation = self._draw(indices)
        size = self.image_size
        pictures = {
            output: torch.empty((len(indices), size, size, 3), dtype=dtype) for output, dtype in self._dtypes.items()
        }
        warp = None if augmentation is None or not self.augment.moves else augmentation.warp(self.camera)
        colour = None if augmentation is None or not self.augment.recolours else augmentation.colour
        work = [
            self._pool.submit(
                self._fill,
                int(index),
                output,
                tensor.numpy()[row],
                None if warp is None else warp[row],
                None if colour is None or output != "image" else colour[row],
            )
            for row, index in enumerate(indices)
            for output, tensor in pictures.items()
        ]
        return _Pending(indices, augmentation, pictures, work)

    def _fill(
        self,
        index: int,
        output: str,
        out: NDArray[Any],
        warp: NDArray[np.float64] | None,
        colour: NDArray[np.float32] | None,
    ) -> None:
        """Decode, crop, resize, warp and colour one sample's picture into ``out`` (H, W, 3)."""
        smooth = output == "image"
        image = self._stored(index, self._members[output], smooth)
        if self.crop != self.image_size:
            shrink = cv2.INTER_AREA if self.crop > self.image_size else cv2.INTER_LINEAR
            image = cv2.resize(image, out.shape[:2], interpolation=shrink if smooth else cv2.INTER_NEAREST_EXACT)
        if warp is not None:
            image = cv2.warpAffine(image, warp, out.shape[:2], flags=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST)
        if colour is not None:
            image = cv2.transform(image, colour)
        out[:] = image

    def _stored(self, index: int, member: str, smooth: bool) -> NDArray[Any]:
        (data,) = picture_data(self.shard_set, [index], member)
        image = data if data.ndim == 3 else decode(data, exact=not smooth)
        expected = (self.shard_set.camera.height, self.shard_set.camera.width)
        if image is None:
            find_undecodable(self.shard_set, [index], [member])
        if image is None or image.shape[:2] != expected:
            raise InputError(f"{self.shard_set.describe(index, member)} is not {expected[1]}x{expected[0]} pixels")
        return image[self.crop_top : self.crop_top + self.crop, self.crop_left : self.crop_left + self.crop]
