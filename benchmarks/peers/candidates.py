"""The loaders of others as candidates of a benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.data import DataFlags, Frames
from benchmarks.harness import Candidate, Steps, run_steps
from benchmarks.peers.common import Batches, Dtype, import_ffcv_reader
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.peers.datago_client import datago_client
from benchmarks.peers.grain_loader import grain_loader
from benchmarks.peers.litdata_loader import litdata_loader
from benchmarks.peers.mosaicml_loader import mosaicml_loader
from benchmarks.peers.reference_way import RECIPE_BATCH, reference_way
from benchmarks.peers.spdl_pipeline import spdl_pipeline
from benchmarks.peers.torch_dataloader import torch_dataloader
from benchmarks.peers.webdataset_loader import webdataset_loader
from loaders import ShardSet

Start = Callable[[], contextlib.AbstractContextManager[Batches]]
"""Starts another loader and gives its batches."""

DALI: Final = ("nvidia.dali",)
GROUPS: Final[dict[Dtype, str]] = {
    "uint8": "uint8 batch, on the CPU",
    "float32": "normalized float32 NCHW batch, on the CPU",
}


@dataclass(frozen=True)
class Setup:
    """What all loaders of a run share."""

    flags: DataFlags
    frames: Frames
    folder: Path
    """For the files of a loader that reads only its own."""
    threads: int
    """Threads or worker processes of a loader (threads)."""

    def stored(self) -> Iterator[tuple[str, Path, str]]:
        """Yield what a row's name says of the storage, the shard set, and why it is absent."""
        yield "", self.frames.jpeg, ""
        yield " raw", self.frames.raw or self.frames.jpeg, "" if self.frames.raw else "no raw shards given"


def peers(setup: Setup, dtype: Dtype) -> Iterator[Candidate]:
    """Yield the loaders of others that read the shard set, a copy of it in their own format, or the dataset."""

    def peer(name: str, start: Start, *needs: str, absent: str = "") -> Candidate:
        run = partial(run_steps, partial(batches_of, start))
        return Candidate(f"{name}, {dtype}", run, GROUPS[dtype], needs=needs, absent=absent)

    root = setup.frames.jpeg
    seeded: dict[str, Any] = {"dtype": dtype, "seed": setup.flags.seed}
    shared = (root, setup.flags.batch_size, setup.threads)
    start: Start = partial(dali_reader, *shared, device=torch.device("cpu"), **seeded)
    yield peer(f"DALI reader{' + crop_mirror_normalize' if dtype == 'float32' else ''}", start, *DALI)
    for stored, shards, absent in setup.stored():
        for normalizer in ("", " + one-pass normalizer") if dtype == "float32" else ("",):
            start = partial(_ffcv, setup, shards, dtype, one_pass=bool(normalizer))
            yield peer(f"FFCV{stored or ' JPEG'}{normalizer}", start, "ffcv", absent=absent)
    yield peer("SPDL", partial(spdl_pipeline, *shared, **seeded), "spdl.pipeline")
    yield peer("Grain", partial(grain_loader, *shared, **seeded), "grain")
    yield peer("torch DataLoader", partial(torch_dataloader, *shared, **seeded))
    yield peer("webdataset", partial(webdataset_loader, *shared, **seeded), "webdataset")
    for name, loader, module in (("LitData", litdata_loader, "litdata"), ("MosaicML", mosaicml_loader, "streaming")):
        copy = setup.folder / module
        yield peer(name, partial(loader, root, copy, setup.flags.batch_size, setup.threads, **seeded), module)
    start = partial(datago_client, root, setup.folder / "datago", setup.flags.batch_size, dtype=dtype)
    yield peer("datago", start, "datago")
    if dtype == "float32":
        dataset, batch_size = setup.frames.dataset, min(setup.flags.batch_size, RECIPE_BATCH)
        start = partial(reference_way, dataset or Path(), batch_size, setup.threads, seed=setup.flags.seed)
        yield peer("reference way", start, "skimage", absent="" if dataset else "no frames given: --dataset")


@contextlib.contextmanager
def batches_of(start: Start, device: str = "cpu") -> Iterator[Steps]:
    """Start another loader, whose steps are its batches."""
    with start() as batches:
        yield steps_of(lambda: sum(len(next(batches.stream)[0]) for _ in range(batches.at_once)), device)


def steps_of(step: Callable[[], int], device: str) -> Steps:
    """Return the steps of a loader whose batches lie on a device."""
    return Steps(step, None if device == "cpu" else torch.cuda.synchronize)


@contextlib.contextmanager
def _ffcv(setup: Setup, root: Path, dtype: Dtype, *, one_pass: bool) -> Iterator[Batches]:
    reader = import_ffcv_reader()
    path = setup.folder / ("jpeg.beton" if root == setup.frames.jpeg else "raw.beton")
    if not path.exists():
        reader.write_beton(root, path, setup.flags.frames, setup.threads)
    epoch, flags = len(ShardSet(root, "train")), setup.flags
    with reader.ffcv_reader(
        path, epoch, flags.batch_size, setup.threads, dtype=dtype, one_pass=one_pass, seed=flags.seed
    ) as batches:
        yield batches
