"""Images per second of loaders, side by side: ``python -m benchmarks.loader``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Session, Target, measure
from benchmarks.peers import dali_reader, webdataset_torchvision
from benchmarks.planes import ToPlanes
from benchmarks.results import Result, publish
from engine.command import OK, run
from loaders import DataConfig, PoseBatch, build_loader
from loaders.config import available_cores
from loaders.errors import InputError

DALI = ("nvidia.dali",)
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LoaderFlags(BenchmarkFlags):
    """Flags of ``benchmarks.loader``."""

    shards: Path | None = None
    """Shard set of JPEG pictures; none generates one, and one of raw pictures."""
    raw_shards: Path | None = None
    """The same frames as raw pictures; left out with --shards given, raw loading is not measured."""
    frames: int = 256
    """Size of the generated set (frames)."""
    repeat: int = 16
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    image_size: int = 368
    """Side of the generated pictures (pixels)."""
    batch_size: int = 32
    """Samples of a batch (samples)."""
    threads: int = 0
    """Decoding threads, or worker processes, of each candidate (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        for name, least in (("frames", 4), ("repeat", 1), ("image_size", 32), ("batch_size", 1), ("threads", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"--{name.replace('_', '-')} is {value}: give at least {least}")
        if self.raw_shards and not self.shards:
            raise InputError("--raw-shards needs --shards: the same frames as JPEG")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(
        LoaderFlags,
        lambda flags: OK if benchmark(flags) else OK,
        program="benchmarks.loader",
        description="Measure loaders side by side.",
        arguments=arguments,
    )


def benchmark(flags: LoaderFlags) -> Result:
    """Measure and publish."""
    with contextlib.ExitStack() as stack:
        shards, raw = flags.shards, flags.raw_shards
        if shards is None:
            shards, raw = _generate(stack.enter_context(data.temporary_folder()), flags)
        measured = measure(
            candidates(shards, raw, flags), rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup, steps=2
        )
    chosen = {"threads": flags.threads or available_cores(), "data": "given" if flags.shards else "generated"}
    return publish("loader", flags, measured, targets(), chosen=chosen)


def _generate(folder: Path, flags: LoaderFlags) -> tuple[Path, Path]:
    dataset, jpeg, raw = folder / "dataset", folder / "jpeg", folder / "raw"
    data.synthesize(dataset, flags.frames)
    for root, image_format in ((jpeg, "jpeg"), (raw, "raw")):
        data.shard(dataset, root, image_format=image_format, image_size=flags.image_size)
        data.repeat_shards(root, flags.repeat)
    return jpeg, raw


def candidates(shards: Path, raw: Path | None, flags: LoaderFlags) -> list[Candidate]:
    """Return all ways, on the CPU and, where there is one, on the GPU."""
    threads = flags.threads or available_cores()
    gpu = torch.device("cuda", 0)
    no_gpu = "" if torch.cuda.is_available() else "no GPU"
    no_raw = "" if raw else "no raw shards given"

    def ours(root: Path | None, backend: str, device: torch.device, *, planes: bool) -> Any:
        assert root is not None or no_raw
        return partial(_ours, root, backend, device, planes, flags)

    def peer(device: torch.device, *, planes: bool) -> Any:
        return partial(
            dali_reader, shards, flags.batch_size, threads, device=device, planes=planes, seed=flags.seed
        )

    def plain(*, planes: bool) -> Any:
        return partial(
            webdataset_torchvision, shards, flags.batch_size, threads, planes=planes, seed=flags.seed
        )

    found = []
    for label, planes in (("uint8", False), ("float32", True)):
        group = "uint8 batch, CPU" if not planes else "normalised float32 NCHW batch, CPU"
        peer_name = f"DALI reader{' + crop_mirror_normalize' if planes else ''}, {label}"
        found += [
            Candidate(f"ours dali, {label}", ours(shards, "dali", CPU, planes=planes), group, needs=DALI, ours=True),
            Candidate(f"ours torch, {label}", ours(shards, "torch", CPU, planes=planes), group, ours=True),
            Candidate(
                f"ours dali raw, {label}",
                ours(raw, "dali", CPU, planes=planes),
                group,
                needs=DALI,
                absent=no_raw,
                ours=True,
            ),
            Candidate(
                f"ours torch raw, {label}", ours(raw, "torch", CPU, planes=planes), group, absent=no_raw, ours=True
            ),
            Candidate(peer_name, peer(CPU, planes=planes), group, needs=DALI),
            Candidate(
                f"webdataset + torchvision, {label}",
                plain(planes=planes),
                group,
                needs=("webdataset", "torchvision"),
            ),
        ]
    return [
        *found,
        Candidate(
            "ours dali GPU, uint8",
            ours(shards, "dali", gpu, planes=False),
            "uint8 batch, GPU",
            needs=DALI,
            absent=no_gpu,
            ours=True,
        ),
        Candidate(
            "DALI reader GPU, uint8", peer(gpu, planes=False), "uint8 batch, GPU", needs=DALI, absent=no_gpu
        ),
    ]


def targets() -> list[Target]:
    """Return what the loader is held against."""
    reader = ("DALI reader + crop_mirror_normalize, float32",)
    jpeg = ("ours dali, float32", "ours torch, float32")
    raw = ("ours dali raw, float32", "ours torch raw, float32")
    return [
        Target("DALI loader, CPU, over DALI's reader, same graph", ("ours dali, uint8",), ("DALI reader, uint8",), 0.97),
        Target("best backend, JPEG to float32, over DALI's reader + normalisation", jpeg, reader, 1.35),
        Target("best backend, raw to float32, over DALI's reader + normalisation (JPEG)", raw, reader, 4.5),
        Target(
            "best backend, JPEG to float32, over webdataset + torchvision",
            jpeg,
            ("webdataset + torchvision, float32",),
            2.6,
        ),
        Target("JPEG over the reference way", at_least=60, unless="the reference way is not transcribed yet"),
        Target("DALI loader, GPU, over DALI's reader, same graph", ("ours dali GPU, uint8",), ("DALI reader GPU, uint8",)),
    ]


@contextlib.contextmanager
def _ours(
    root: Path, backend: Literal["dali", "torch"], device: torch.device, planes: bool, flags: LoaderFlags
) -> Iterator[Session]:
    """Our loader, training order, all labels, no augmentation."""
    config = DataConfig(
        shards=root, batch_size=flags.batch_size, backend=backend, threads=flags.threads, seed=flags.seed
    )
    with contextlib.closing(build_loader(config, "train", device=device, training=True)) as loader:
        to_planes = stack_planes(config) if planes else None
        batches = _endless(loader)

        def step() -> int:
            batch = next(batches)
            assert batch.image is not None
            if to_planes is not None:
                to_planes(batch.image)
            return len(batch)

        try:
            yield Session(step, torch.cuda.synchronize if device.type == "cuda" else lambda: None)
        finally:
            batches.close()
            if to_planes is not None:
                to_planes.close()


if __name__ == "__main__":
    sys.exit(main())
