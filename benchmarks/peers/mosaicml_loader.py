"""MosaicML Streaming: a copy in its MDS format, read by torch's DataLoader as its manual shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.peers.common import Batches, Dtype, Sample, decode_stored_sample, from_workers, stored_samples


@contextlib.contextmanager
def mosaicml_loader(
    root: Path, copy: Path, batch_size: int, workers: int, *, dtype: Dtype, seed: int
) -> Iterator[Batches]:
    """Its default shuffle, of blocks of samples; labels are tuples of bytes.

    Args:
        root: the shard set.
        copy: folder of its copy, which is made if absent.
        batch_size: samples of a batch.
        workers: processes.
        dtype: of the images.
        seed: of the shuffle.
    """
    from streaming import MDSWriter, StreamingDataset  # noqa: PLC0415 - absent on some machines

    if not copy.exists():
        with MDSWriter(out=str(copy), columns=dict.fromkeys(("image", "pose", "meta"), "bytes")) as writer:
            for sample in stored_samples(root):
                writer.write(sample)

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            return decode_stored_sample(super().__getitem__(index), dtype)

    samples = Decoded(local=str(copy), shuffle=True, shuffle_seed=seed, batch_size=batch_size)
    loader: DataLoader[Sample] = DataLoader(
        samples, batch_size, num_workers=workers, drop_last=True, prefetch_factor=4, persistent_workers=True
    )
    with from_workers(loader, workers) as batches:
        yield batches
