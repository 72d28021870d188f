"""SPDL: a pipeline of threads, with the decoder of torch's peers, which is faster here than its own, FFmpeg's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.common import Batch, Batches, Dtype, EncodedSamples, collate, torch_threads


@contextlib.contextmanager
def spdl_pipeline(root: Path, batch_size: int, threads: int, *, dtype: Dtype, seed: int) -> Iterator[Batches]:
    """A global shuffle; each thread makes whole batches; labels are tuples of bytes."""
    from spdl.pipeline import PipelineBuilder  # noqa: PLC0415 - absent on some machines

    samples = EncodedSamples(root, dtype=dtype)

    def load(indices: NDArray[np.int64]) -> Batch:
        return collate(samples[index] for index in indices.tolist())

    pipeline = (
        PipelineBuilder()
        .add_source(_orders(len(samples), batch_size, seed))
        .pipe(load, concurrency=threads)
        .add_sink(threads)
        .build(num_threads=threads, max_failures=0)
    )
    # the pipeline's threads are the parallelism
    with torch_threads(1), pipeline.auto_stop():
        yield Batches(iter(pipeline), threads)


def _orders(samples: int, batch_size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices (B,) of batch after batch; each epoch is a permutation, without its incomplete batch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(samples)
        yield from order[: samples // batch_size * batch_size].reshape(-1, batch_size)
