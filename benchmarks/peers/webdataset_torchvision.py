"""The webdataset library with torchvision's JPEG decoder in DataLoader workers, as its manual shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.common import SHUFFLE_BUFFER, Batches, Dtype, decode_jpeg, from_workers
from loaders import ShardSet
from loaders.format.sample import META, POSE


@contextlib.contextmanager
def webdataset_torchvision(root: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
    """Shards shuffled, and samples within a buffer; labels are lists of bytes."""
    import webdataset  # noqa: PLC0415 - absent on some machines

    shard_set = ShardSet(root, "train")
    decode = partial(_decode, shard_set.manifest.image_member or "", dtype)
    urls = [str(shard_set.folder / shard.name) for shard in shard_set.shards]
    workers = min(workers, len(urls))
    samples = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), seed=seed)
        .shuffle(SHUFFLE_BUFFER)
        .map(decode)
        .batched(batch_size, partial=False)
        .repeat()
    )
    loader = webdataset.WebLoader(samples, batch_size=None, num_workers=workers, persistent_workers=True)
    with from_workers(loader, workers) as batches:
        yield batches


def _decode(member: str, dtype: Dtype, sample: dict[str, Any]) -> tuple[Tensor, bytes, bytes]:
    """Turn a sample of webdataset into (image, pose bytes, meta bytes)."""
    encoded = torch.frombuffer(bytearray(sample[member]), dtype=torch.uint8)
    return decode_jpeg(encoded, dtype), sample[POSE], sample[META]
