"""torch's DataLoader over a map-style data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.common import Batches, Dtype, EncodedSamples, from_workers


@contextlib.contextmanager
def torch_dataloader(root: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
    """A global shuffle, workers that stay; labels are tuples of bytes."""
    # its own collation: workers fill shared memory in place
    loader = DataLoader(
        cast(Any, EncodedSamples(root, dtype=dtype)),
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
