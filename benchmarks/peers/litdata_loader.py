"""LitData: a copy in its own chunks, read by its StreamingDataLoader."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.common import Batches, Dtype, Sample, decode_stored_sample, from_workers, stored_samples

_CHUNK: Final = 2**26
"""Its default size of a chunk (bytes)."""


@contextlib.contextmanager
def litdata_loader(
    root: Path, copy: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int
) -> Iterator[Batches]:
    """Chunks shuffled, and samples within a chunk; labels are tuples of bytes.

    Args:
        root: the shard set.
        copy: folder of its copy, which is made if absent.
        batch_size: samples of a batch.
        workers: processes.
        dtype: of the images.
        seed: of the shuffle.
    """
    from litdata import StreamingDataLoader, StreamingDataset  # noqa: PLC0415 - absent on some machines
    from litdata.streaming.writer import BinaryWriter  # noqa: PLC0415

    if not copy.exists():
        # what its `optimize` does in worker processes
        writer = BinaryWriter(str(copy), chunk_bytes=_CHUNK)
        for number, sample in enumerate(stored_samples(root)):
            writer[number] = sample
        writer.done()
        writer.merge()

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Sample:
            return decode_stored_sample(super().__getitem__(index), dtype)

    samples = Decoded(str(copy), shuffle=True, seed=seed, item_shuffle_window="full")
    loader = StreamingDataLoader(
        samples, batch_size=batch_size, num_workers=workers, drop_last=True, prefetch_factor=4, persistent_workers=True
    )
    with from_workers(loader, workers) as batches:
        yield batches
    # it holds its own iterator, and with it the workers
    del loader
    gc.collect()
