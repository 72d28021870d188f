"""Grain: its dataset of shuffled, decoded and batched elements, made by the threads that read it ahead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.common import Batches, Dtype, EncodedSamples, collate, torch_threads


@contextlib.contextmanager
def grain_loader(root: Path, batch_size: int, threads: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
    """A global shuffle; each thread makes whole batches; labels are tuples of bytes.

    Its worker processes, which are for what holds Python's lock, would copy each batch once more.
    """
    import grain  # noqa: PLC0415 - absent on some machines

    samples = grain.MapDataset.source(EncodedSamples(root, dtype=dtype)).seed(seed).shuffle().repeat()
    batches = samples.batch(batch_size, drop_remainder=True, batch_fn=collate)
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    # its threads are the parallelism
    with torch_threads(1), contextlib.closing(iter(batches.to_iter_dataset(ahead))) as stream:
        yield Batches(stream, threads)
