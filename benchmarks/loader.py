"""Images per second of loaders, ours and others, side by side: ``python -m benchmarks.loader``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks import data
from benchmarks.harness import Candidate, Length, Reading, Row, Steps, Target, measure, run_steps, verdicts
from benchmarks.peers.common import Batches, Dtype, endless, import_ffcv_reader
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.peers.reference_way import RECIPE_BATCH, reference_way
from benchmarks.peers.spdl_pipeline import spdl_pipeline
from benchmarks.peers.torch_dataloader import torch_dataloader
from benchmarks.peers.webdataset_torchvision import webdataset_torchvision
from benchmarks.results import publish
from engine.cli.command import OK, command
from loaders import AugmentConfig, DataConfig, ShardSet, build_loader
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

Backend = Literal["dali", "torch"]
Start = Callable[[], contextlib.AbstractContextManager[Batches]]
"""Starts another loader and gives its batches."""

_BACKENDS: Final[tuple[Backend, ...]] = ("dali", "torch")
_DTYPES: Final[tuple[Dtype, ...]] = ("uint8", "float32")
_DALI: Final = ("nvidia.dali",)
_STEP: Final = 0.005
"""Time that a training step takes per image, while its loader works ahead (seconds)."""
_FIRST_STEPS: Final = 4
"""Steps until a loader works ahead (steps)."""
_GROUPS: Final[dict[Dtype, str]] = {
    "uint8": "uint8 batch, on the CPU",
    "float32": "normalized float32 NCHW batch, on the CPU",
}


@dataclass(frozen=True, kw_only=True)
class LoaderFlags(data.DataFlags):
    """Flags of ``benchmarks.loader``."""

    shards: Path | None = None
    """Shard set of JPEG images; none generates one, and one of raw images."""
    raw_shards: Path | None = None
    """The same frames as raw images; with --shards alone, raw loading is not measured."""
    dataset: Path | None = None
    """Frames as they were extracted, for the reference way; with --shards alone, that way is not measured."""
    seconds: float = 1.0
    """Least time of a repetition (seconds)."""
    warmup: float = 1.5
    """Least time before each repetition that is not measured (seconds); an epoch of the generated set, so that touching
    mapped tars for the first time, once in a run, does not count."""
    threads: int = 0
    """Decoding threads, or worker processes, of each candidate (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(self, "--", seconds=Range(0), warmup=Range(0), threads=Range(0))
        for name in ("raw_shards", "dataset"):
            if getattr(self, name) and not self.shards:
                raise InputError(f"--{name.replace('_', '-')} needs --shards: the same frames as JPEG")


@dataclass(frozen=True)
class Setup:
    """What all loaders of a run share."""

    flags: LoaderFlags
    frames: data.Frames
    folder: Path
    """For the files of a loader that reads only its own."""

    @property
    def threads(self) -> int:
        """Threads or worker processes of a loader (threads)."""
        return self.flags.threads or available_cores()

    def stored(self) -> Iterator[tuple[str, Path, str]]:
        """Yield what a row's name says of the storage, the shard set, and why it is absent."""
        yield "", self.frames.jpeg, ""
        yield " raw", self.frames.raw or self.frames.jpeg, "" if self.frames.raw else "no raw shards given"


@command("benchmarks.loader", "Measure loaders.")
def main(flags: LoaderFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: LoaderFlags) -> list[Row]:
    """Measure and publish."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if flags.shards:
            frames = data.Frames(flags.shards, raw=flags.raw_shards, dataset=flags.dataset)
        else:
            frames = data.generate(flags, Path(folder), storages=("jpeg", "raw"))
        setup = Setup(flags, frames, Path(folder))
        kilobytes = mean_image(setup.frames.jpeg, flags.frames) / 1e3
        first, *others = candidates(setup)
        first = dataclasses.replace(first, note=f"JPEGs of {kilobytes:.0f} kB")
        length = Length(flags.seconds, flags.warmup, steps=2)
        measured = measure([first, *others], length, flags.repetitions)
    chosen = {"threads": setup.threads, "mean JPEG (kB)": round(kilobytes, 1)}
    targets_ = targets([one.candidate.name for one in measured])
    return publish("loader", flags, measured, verdicts(targets_, measured, flags.seed), chosen=chosen)


def mean_image(shards: Path, samples: int) -> float:
    """Return the mean size of the first images of a shard set (bytes)."""
    shard_set = ShardSet(shards, "train")
    first = shard_set.read(range(min(samples, len(shard_set))), shard_set.manifest.image_member or "")
    return sum(len(image) for image in first) / len(first)


def targets(names: list[str]) -> list[Target]:
    """Return what our loaders are held against, of candidates with these names."""

    def others(dtype: Dtype, *, raw: bool) -> list[str]:
        peers = [name for name in names if name.endswith(f", {dtype}") and not name.startswith("ours")]
        return [name for name in peers if (" raw" in name) == raw]

    def ours(stored: str, dtype: Dtype) -> list[str]:
        return [f"ours {backend}{stored}, {dtype}" for backend in _BACKENDS]

    jpeg, raw = ours("", "float32"), ours(" raw", "float32")
    normalizing = ["DALI reader + crop_mirror_normalize, float32"]
    webdataset = ["webdataset + torchvision, float32"]
    to_floats = "best backend, {} to float32, over {}"
    same_graph = "DALI loader, {}, over DALI's reader, same graph"
    return [
        *(
            Target(
                f"best backend, {'raw' if stored else 'JPEG'} to {dtype}, over the best other loader",
                ours(stored, dtype),
                others(dtype, raw=bool(stored)),
                at_least=1.0,
            )
            for stored in ("", " raw")
            for dtype in _DTYPES
        ),
        Target(same_graph.format("CPU"), ["ours dali, uint8"], ["DALI reader, uint8"], at_least=0.97),
        Target(same_graph.format("GPU"), ["ours dali, gpu"], ["DALI reader, gpu"]),
        Target(to_floats.format("JPEG", "DALI's reader + normalization"), jpeg, normalizing, at_least=1.35),
        Target(to_floats.format("raw", "DALI's reader (JPEG) + normalization"), raw, normalizing, at_least=4.5),
        Target(to_floats.format("JPEG", "webdataset + torchvision"), jpeg, webdataset, at_least=2.6),
        Target(to_floats.format("JPEG", "the reference way"), jpeg, ["reference way, float32"], at_least=60),
        Target(
            "training thread's time per image, page cache cold (ms)",
            [f"training thread beside ours {backend}, cold" for backend in _BACKENDS],
            at_most=0.1,
        ),
    ]


def candidates(setup: Setup) -> list[Candidate]:
    """Return all loaders, on the CPU and on the GPU."""
    return [
        *(one for dtype in _DTYPES for one in (*_ours_on_the_cpu(setup, dtype), *_peers(setup, dtype))),
        *_augmented(setup),
        *_training_thread(setup),
        *_on_the_gpu(setup),
    ]


def _ours_on_the_cpu(setup: Setup, dtype: Dtype) -> Iterator[Candidate]:
    for stored, root, absent in setup.stored():
        for backend in _BACKENDS:
            start = partial(_ours, setup, root, backend, dtype=dtype)
            yield _our_candidate(f"ours {backend}{stored}, {dtype}", start, _GROUPS[dtype], backend, absent)


def _augmented(setup: Setup) -> Iterator[Candidate]:
    for backend in _BACKENDS:
        start = partial(_ours, setup, setup.frames.jpeg, backend, augment=data.AUGMENT)
        yield _our_candidate(f"ours {backend}, augmented", start, "augmented uint8 batch, on the CPU", backend)


def _training_thread(setup: Setup) -> Iterator[Candidate]:
    """Yield what loading costs a thread that trains, with the shards in the page cache and without."""
    for state in ("warm", "cold"):
        for backend in _BACKENDS:
            yield Candidate(
                f"training thread beside ours {backend}, {state}",
                partial(_time_of_training_thread, setup, backend, cold=state == "cold"),
                "uint8 batch on the CPU, taken between steps of 5 ms per image",
                unit="ms/image",
                needs=_DALI if backend == "dali" else (),
            )


def _on_the_gpu(setup: Setup) -> Iterator[Candidate]:
    group, absent = "uint8 batch, on the GPU", "" if torch.cuda.is_available() else "no GPU"
    ours = partial(_ours, setup, setup.frames.jpeg, "dali", device="cuda:0")
    yield _our_candidate("ours dali, gpu", ours, group, "dali", absent)
    theirs = partial(
        dali_reader,
        *(setup.frames.jpeg, setup.flags.batch_size, setup.threads),
        device=torch.device("cuda:0"),
        dtype="uint8",
        seed=setup.flags.seed,
    )
    run = partial(run_steps, partial(_batches, theirs, "cuda:0"))
    yield Candidate("DALI reader, gpu", run, group, needs=_DALI, absent=absent)


def _our_candidate(
    name: str,
    start: Callable[[], contextlib.AbstractContextManager[Steps]],
    group: str,
    backend: Backend,
    absent: str = "",
) -> Candidate:
    needs = _DALI if backend == "dali" else ()
    return Candidate(name, partial(run_steps, start), group, needs=needs, absent=absent)


def _peers(setup: Setup, dtype: Dtype) -> Iterator[Candidate]:
    """Yield the loaders of others that read the shard set, a copy of it in their own format, or the dataset."""

    def peer(name: str, start: Start, *needs: str, absent: str = "") -> Candidate:
        run = partial(run_steps, partial(_batches, start))
        return Candidate(f"{name}, {dtype}", run, _GROUPS[dtype], needs=needs, absent=absent)

    shared = (setup.frames.jpeg, setup.flags.batch_size, setup.threads)
    start: Start = partial(dali_reader, *shared, device=torch.device("cpu"), dtype=dtype, seed=setup.flags.seed)
    yield peer(f"DALI reader{' + crop_mirror_normalize' if dtype == 'float32' else ''}", start, *_DALI)
    for stored, root, absent in setup.stored():
        for normalizer in ("", " + one-pass normalizer") if dtype == "float32" else ("",):
            start = partial(_ffcv, setup, root, dtype, one_pass=bool(normalizer))
            yield peer(f"FFCV{stored or ' JPEG'}{normalizer}", start, "ffcv", absent=absent)
    start = partial(spdl_pipeline, *shared, dtype=dtype, seed=setup.flags.seed)
    yield peer("SPDL + torchvision", start, "spdl.pipeline", "torchvision")
    start = partial(torch_dataloader, *shared, dtype=dtype, seed=setup.flags.seed)
    yield peer("torch DataLoader + torchvision", start, "torchvision")
    start = partial(webdataset_torchvision, *shared, dtype=dtype, seed=setup.flags.seed)
    yield peer("webdataset + torchvision", start, "webdataset", "torchvision")
    if dtype == "float32":
        dataset, batch_size = setup.frames.dataset, min(setup.flags.batch_size, RECIPE_BATCH)
        start = partial(reference_way, dataset or Path(), batch_size, setup.threads, seed=setup.flags.seed)
        yield peer("reference way", start, "skimage", absent="" if dataset else "no frames given: --dataset")


@contextlib.contextmanager
def _batches(start: Start, device: str = "cpu") -> Iterator[Steps]:
    with start() as batches:
        yield _steps(lambda: sum(len(next(batches.stream)[0]) for _ in range(batches.at_once)), device)


def _steps(step: Callable[[], int], device: str) -> Steps:
    return Steps(step, None if device == "cpu" else torch.cuda.synchronize)


@contextlib.contextmanager
def _ffcv(setup: Setup, root: Path, dtype: Dtype, *, one_pass: bool) -> Iterator[Batches]:
    reader = import_ffcv_reader()
    path = setup.folder / ("jpeg.beton" if root == setup.frames.jpeg else "raw.beton")
    if not path.exists():
        reader.write_beton(root, path, setup.flags.frames, setup.threads)
    epoch = len(ShardSet(root, "train"))
    with reader.ffcv_reader(
        path, epoch, setup.flags.batch_size, setup.threads, dtype=dtype, one_pass=one_pass, seed=setup.flags.seed
    ) as batches:
        yield batches


def _time_of_training_thread(setup: Setup, backend: Backend, length: Length, *, cold: bool) -> Reading:
    """Return what taking batches adds to the time of training steps, which end late if another thread has the lock."""
    root = setup.folder / "copy"
    if setup.flags.shards:
        root = setup.frames.jpeg
    elif not root.exists():
        shutil.copytree(setup.frames.jpeg, root)  # the repeated shards were links to files that are soon in memory
    if cold:
        _drop_from_page_cache(root)
    with _ours(setup, root, backend) as work:

        def step() -> int:
            images = work.step()
            time.sleep(images * _STEP)
            return images

        for _ in range(_FIRST_STEPS):
            step()
        images, steps, began = 0, 0, time.perf_counter()
        while steps < length.steps or time.perf_counter() - began < length.seconds:
            images, steps = images + step(), steps + 1
        seconds = time.perf_counter() - began - images * _STEP
    return Reading(seconds * 1e3 / images, 1.0)


def _drop_from_page_cache(root: Path) -> None:
    """Have the system forget the shards' bytes; what is not on the disk yet would stay."""
    for path in root.rglob("*.tar"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _ours(
    setup: Setup,
    root: Path,
    backend: Backend,
    *,
    device: str = "cpu",
    dtype: Dtype = "uint8",
    augment: AugmentConfig | None = None,
) -> Iterator[Steps]:
    """Our loader: training order, all labels."""
    config = DataConfig(
        shards=root,
        batch_size=setup.flags.batch_size,
        backend=backend,
        threads=setup.threads,
        seed=setup.flags.seed,
        augment=augment or AugmentConfig(),
    )
    with (
        contextlib.closing(build_loader(config, "train", device=device, training=True, dtype=dtype)) as loader,
        contextlib.closing(endless(loader)) as batches,
    ):
        yield _steps(lambda: len(next(batches)), device)


if __name__ == "__main__":
    sys.exit(main())
