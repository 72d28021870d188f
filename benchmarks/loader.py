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
from benchmarks.peers.candidates import DALI, GROUPS, Setup, batches_of, peers, steps_of
from benchmarks.peers.common import DECODER, Dtype, endless
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.results import publish
from engine.cli.command import OK, command
from loaders import AugmentConfig, DataConfig, ShardSet, build_loader
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.windows import find_windows

Backend = Literal["dali", "torch"]

_BACKENDS: Final[tuple[Backend, ...]] = ("dali", "torch")
_DTYPES: Final[tuple[Dtype, ...]] = ("uint8", "float32")
FAST_DCT: Final = ", fast DCT"
"""In the names of our candidates that decode as FFCV does."""
WINDOW: Final = 5
"""Frames of a window (frames)."""
_STRIDES: Final = (1, 2)
_LEAST: Final[dict[tuple[str, Dtype], float]] = {("DALI reader", "float32"): 1.35}
"""Ratios that we want over another loader; over the rest 1."""
_STEP: Final = 0.005
"""Time that a training step takes per image, while its loader works ahead (seconds)."""
_FIRST_STEPS: Final = 4
"""Steps until a loader works ahead (steps)."""


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
        setup = Setup(flags, frames, Path(folder), flags.threads or available_cores())
        kilobytes = mean_image(setup.frames.jpeg, flags.frames) / 1e3
        first, *others = candidates(setup)
        first = dataclasses.replace(first, note=f"JPEGs of {kilobytes:.0f} kB")
        length = Length(flags.seconds, flags.warmup, steps=2)
        measured = measure([first, *others], length, flags.repetitions)
    chosen = {"threads": setup.threads, "mean JPEG (kB)": round(kilobytes, 1), "JPEG decoder of torch's peers": DECODER}
    targets_ = targets([one.candidate.name for one in measured])
    return publish("loader", flags, measured, verdicts(targets_, measured, flags.seed), chosen=chosen)


def mean_image(shards: Path, samples: int) -> float:
    """Return the mean size of the first images of a shard set (bytes)."""
    shard_set = ShardSet(shards, "train")
    first = shard_set.read(range(min(samples, len(shard_set))), shard_set.manifest.image_member or "")
    return sum(len(image) for image in first) / len(first)


def targets(names: list[str]) -> list[Target]:
    """Return what our loaders are held against, of candidates with these names: above all every other one."""

    def ours(stored: str, dtype: Dtype) -> list[str]:
        return [f"ours {backend}{stored}, {dtype}" for backend in _BACKENDS]

    best, same_graph = "best backend, {} to {}, over {}", "DALI loader, {}, over DALI's reader, same graph"
    dali, reference = ["DALI reader + crop_mirror_normalize, float32"], ["reference way, float32"]
    return [
        *(
            Target(best.format(what, dtype, peer), ours(stored, dtype), found, _LEAST.get((peer, dtype), 1.0))
            for dtype in _DTYPES
            for peer, what, stored, found in _alike(names, dtype)
        ),
        Target(best.format("raw", "float32", "DALI reader (JPEG)"), ours(" raw", "float32"), dali, 4.5),
        Target(best.format("JPEG", "float32", "the reference way"), ours("", "float32"), reference, 60),
        *(
            Target(
                f"windows of {WINDOW} frames, stride {stride}, over single frames, per image",
                [_windows_name(backend, stride) for backend in _BACKENDS],
                ours("", "uint8"),
                0.95,
            )
            for stride in _STRIDES
        ),
        Target(same_graph.format("CPU"), ["ours dali, uint8"], ["DALI reader, uint8"], 0.97),
        Target(same_graph.format("GPU"), ["ours dali, gpu"], ["DALI reader, gpu"]),
        Target(
            "training thread's time per image, page cache cold (ms)",
            [f"training thread beside ours {backend}, cold" for backend in _BACKENDS],
            at_most=0.1,
        ),
    ]


def _alike(names: list[str], dtype: Dtype) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield another loader, what both read, how our candidates name that, and the other's names: the faster counts."""
    peers: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(f", {dtype}") and not name.startswith(("ours", "reference")):
            peers.setdefault(name.removesuffix(f", {dtype}").partition(" + ")[0], []).append(name)
    for peer, found in peers.items():
        what, stored = "JPEG", ""
        if peer == "FFCV JPEG":
            what, stored = "JPEG by the fast DCT", FAST_DCT
        elif peer == "FFCV raw":
            what, stored = "raw", " raw"
        yield peer, what, stored, found


def candidates(setup: Setup) -> list[Candidate]:
    """Return all loaders, on the CPU and on the GPU."""
    return [
        *(one for dtype in _DTYPES for one in (*_ours_on_the_cpu(setup, dtype), *peers(setup, dtype))),
        *_augmented(setup),
        *_windows(setup),
        *_training_thread(setup),
        *_on_the_gpu(setup),
    ]


def _ours_on_the_cpu(setup: Setup, dtype: Dtype) -> Iterator[Candidate]:
    jpeg = setup.frames.jpeg
    for stored, root, absent in (*setup.stored(), (FAST_DCT, jpeg, "")):
        for backend in _BACKENDS:
            start = partial(_ours, setup, root, backend, dtype=dtype, fast_dct=stored == FAST_DCT)
            yield _our_candidate(f"ours {backend}{stored}, {dtype}", start, GROUPS[dtype], backend, absent)


def _augmented(setup: Setup) -> Iterator[Candidate]:
    for backend in _BACKENDS:
        start = partial(_ours, setup, setup.frames.jpeg, backend, augment=data.AUGMENT)
        yield _our_candidate(f"ours {backend}, augmented", start, "augmented uint8 batch, on the CPU", backend)


def _windows_name(backend: Backend, stride: int) -> str:
    return f"ours {backend}, windows, stride {stride}"


def _windows(setup: Setup) -> Iterator[Candidate]:
    """Yield our loaders of windows, with about as many images in a batch."""
    keys = ShardSet(setup.frames.jpeg, "train").keys
    for stride in _STRIDES:
        windows = len(find_windows(keys, WINDOW, stride))
        absent = "" if windows > setup.flags.batch_size else f"only {windows} windows"
        for backend in _BACKENDS:
            start = partial(_ours, setup, setup.frames.jpeg, backend, window=WINDOW, stride=stride)
            group = f"uint8 batch of windows of {WINDOW} frames, on the CPU"
            yield _our_candidate(_windows_name(backend, stride), start, group, backend, absent)


def _training_thread(setup: Setup) -> Iterator[Candidate]:
    """Yield what loading costs a thread that trains, with the shards in the page cache and without."""
    for state in ("warm", "cold"):
        for backend in _BACKENDS:
            yield Candidate(
                f"training thread beside ours {backend}, {state}",
                partial(_time_of_training_thread, setup, backend, cold=state == "cold"),
                "uint8 batch on the CPU, taken between steps of 5 ms per image",
                unit="ms/image",
                needs=DALI if backend == "dali" else (),
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
    run = partial(run_steps, partial(batches_of, theirs, "cuda:0"))
    yield Candidate("DALI reader, gpu", run, group, needs=DALI, absent=absent)


def _our_candidate(
    name: str,
    start: Callable[[], contextlib.AbstractContextManager[Steps]],
    group: str,
    backend: Backend,
    absent: str = "",
) -> Candidate:
    needs = DALI if backend == "dali" else ()
    return Candidate(name, partial(run_steps, start), group, needs=needs, absent=absent)


def _time_of_training_thread(setup: Setup, backend: Backend, length: Length, *, cold: bool) -> Reading:
    """Return what taking batches adds to the time of training steps, which end late if another thread has the lock."""
    root = setup.frames.jpeg
    if root.is_relative_to(setup.folder):  # generated: the repeated shards are links to files that are soon in memory
        root = setup.folder / "copy"
        if not root.exists():
            shutil.copytree(setup.frames.jpeg, root)
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
    fast_dct: bool = False,
    window: int = 1,
    stride: int = 1,
) -> Iterator[Steps]:
    """Our loader: training order, all labels."""
    config = DataConfig(
        shards=root,
        batch_size=max(1, setup.flags.batch_size // window),
        window=window,
        stride=stride,
        backend=backend,
        threads=setup.threads,
        seed=setup.flags.seed,
        augment=augment or AugmentConfig(),
        fast_dct=fast_dct,
    )
    with (
        contextlib.closing(build_loader(config, "train", device=device, training=True, dtype=dtype)) as loader,
        contextlib.closing(endless(loader)) as batches,
    ):
        yield steps_of(lambda: window * len(next(batches)), device)


if __name__ == "__main__":
    sys.exit(main())
