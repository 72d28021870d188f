"""The webdataset library with torchvision's JPEG decoder in DataLoader workers, as its manual shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.common import SHUFFLE_BUFFER, Batches, decode_jpeg, from_workers
from loaders import ShardSet
from loaders.format.sample import META, POSE


@contextlib.contextmanager
def webdataset_torchvision(root: Path, batch_size: int, workers: int, *, planes: bool, seed: int) -> Iterator[Batches]:
    """Shards shuffled, and samples within a buffer; labels are lists of bytes.

    Args:
        root: the shard set.
        batch_size: samples of a batch.
        workers: processes.
        planes: normalize to float32 NCHW; otherwise uint8 NCHW.
        seed: of the shuffle.
    """
    import webdataset  # noqa: PLC0415 - absent on some machines

    shard_set = ShardSet(root, "train")
    decode = _Decode(shard_set.manifest.image_member or "", planes)
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


class _Decode:
    """One sample of webdataset to (image, pose bytes, meta bytes)."""

    def __init__(self, member: str, planes: bool) -> None:
        self._member = member
        self._planes = planes

    def __call__(self, sample: dict[str, Any]) -> tuple[Tensor, bytes, bytes]:
        encoded = torch.frombuffer(bytearray(sample[self._member]), dtype=torch.uint8)
        return decode_jpeg(encoded, self._planes), sample[POSE], sample[META]
