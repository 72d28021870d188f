"""The webdataset library in DataLoader workers, as its manual shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.common import SHUFFLE_BUFFER, Batches, Dtype, Sample, decode_jpeg, from_workers
from loaders import ShardSet
from loaders.format.sample import META, POSE


@contextlib.contextmanager
def webdataset_loader(root: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
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


def _decode(member: str, dtype: Dtype, sample: dict[str, Any]) -> Sample:
    """Decode a sample of webdataset."""
    return decode_jpeg(sample[member], dtype), sample[POSE], sample[META]
