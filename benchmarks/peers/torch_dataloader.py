"""torch's DataLoader over a map-style data set with torchvision's JPEG decoder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.common import Batches, Dtype, decode_jpeg, from_workers
from loaders import ShardSet
from loaders.format.sample import META, POSE


class EncodedSamples(Dataset[tuple[Tensor, bytes, bytes]]):
    """Samples of a shard set as (image, pose bytes, meta bytes), the image decoded by torchvision."""

    def __init__(self, root: Path, *, dtype: Dtype) -> None:
        """Open the training split."""
        self._shard_set = ShardSet(root, "train")
        self._member = self._shard_set.manifest.image_member or ""
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._shard_set)

    def __getitem__(self, index: int) -> tuple[Tensor, bytes, bytes]:
        # a copy: torch warns of memory that may not be written
        encoded = torch.from_numpy(np.array(self._shard_set.member(index, self._member)))
        pose, meta = (self._shard_set.member(index, name).tobytes() for name in (POSE, META))
        return decode_jpeg(encoded, self._dtype), pose, meta


@contextlib.contextmanager
def torch_dataloader(root: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
    """A global shuffle, workers that stay; labels are tuples of bytes."""
    loader = DataLoader(
        EncodedSamples(root, dtype=dtype),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        prefetch_factor=4,
        persistent_workers=True,
    )
    with from_workers(loader, workers) as batches:
        yield batches
