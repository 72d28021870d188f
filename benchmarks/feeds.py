"""The loaders that `benchmarks.loader` compares, and what they are held against."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks.harness import Candidate, Session, Target
from benchmarks.peers import dali_reader, webdataset_torchvision
from benchmarks.planes import ToPlanes
from loaders import DataConfig, Loader, PoseBatch, build_loader

Backend = Literal["dali", "torch"]

_BACKENDS: Final[tuple[Backend, ...]] = ("dali", "torch")
_DALI: Final = ("nvidia.dali",)
_GROUPS: Final = {
    "uint8": "uint8 batch, on the CPU",
    "float32": "normalised float32 NCHW batch, on the CPU",
    "gpu": "uint8 batch, on the GPU",
}


@dataclass(frozen=True)
class Feed:
    """What all loaders of a run share."""

    shards: Path
    """JPEG pictures."""
    raw_shards: Path | None
    """The same as raw pictures, if there are any."""
    batch_size: int
    """Samples of a batch (samples)."""
    threads: int
    """Threads or worker processes of a loader (threads)."""
    seed: int


def candidates(feed: Feed) -> list[Candidate]:
    """Return all ways, on the CPU and on the GPU."""
    return [*_on_the_cpu(feed, "uint8"), *_on_the_cpu(feed, "float32"), *_on_the_gpu(feed)]


def targets() -> list[Target]:
    """Return what the loader is held against."""
    reader = ("DALI reader + crop_mirror_normalize, float32",)
    jpeg = ("ours dali, float32", "ours torch, float32")
    raw = ("ours dali raw, float32", "ours torch raw, float32")
    plain = ("webdataset + torchvision, float32",)
    return [
        Target(
            "DALI loader, CPU, over DALI's reader, same graph", ("ours dali, uint8",), ("DALI reader, uint8",), 0.97
        ),
        Target("best backend, JPEG to float32, over DALI's reader + normalisation", jpeg, reader, 1.35),
        Target("best backend, raw to float32, over DALI's reader (JPEG) + normalisation", raw, reader, 4.5),
        Target("best backend, JPEG to float32, over webdataset + torchvision", jpeg, plain, 2.6),
        Target("best backend, JPEG, over the reference way", at_least=60, unless="that way is not transcribed yet"),
        Target("DALI loader, GPU, over DALI's reader, same graph", ("ours dali, gpu",), ("DALI reader, gpu",)),
        Target("memory of a loader process, at most 1.5 GiB", unless="no benchmark of it yet"),
    ]


def _on_the_cpu(feed: Feed, output: Literal["uint8", "float32"]) -> Iterator[Candidate]:
    group, planes = _GROUPS[output], output == "float32"
    for stored, root in (("", feed.shards), (" raw", feed.raw_shards)):
        absent = "" if root else "no raw shards given"
        for backend in _BACKENDS:
            needs = _DALI if backend == "dali" else ()
            start = partial(_ours, root or feed.shards, backend, "cpu", planes, feed)
            yield Candidate(f"ours {backend}{stored}, {output}", start, group, needs=needs, absent=absent, ours=True)
    reader = partial(_dali, feed, "cpu", planes)
    yield Candidate(f"DALI reader{' + crop_mirror_normalize' * planes}, {output}", reader, group, needs=_DALI)
    plain = partial(webdataset_torchvision, feed.shards, feed.batch_size, feed.threads, planes=planes, seed=feed.seed)
    yield Candidate(f"webdataset + torchvision, {output}", plain, group, needs=("webdataset", "torchvision"))


def _on_the_gpu(feed: Feed) -> Iterator[Candidate]:
    absent = "" if torch.cuda.is_available() else "no GPU"
    ours = partial(_ours, feed.shards, "dali", "cuda:0", False, feed)
    yield Candidate("ours dali, gpu", ours, _GROUPS["gpu"], needs=_DALI, absent=absent, ours=True)
    yield Candidate(
        "DALI reader, gpu", partial(_dali, feed, "cuda:0", False), _GROUPS["gpu"], needs=_DALI, absent=absent
    )


def _dali(feed: Feed, device: str, planes: bool) -> contextlib.AbstractContextManager[Session]:
    return dali_reader(
        feed.shards, feed.batch_size, feed.threads, device=torch.device(device), planes=planes, seed=feed.seed
    )


@contextlib.contextmanager
def _ours(root: Path, backend: Backend, device: str, planes: bool, feed: Feed) -> Iterator[Session]:
    """Our loader: training order, all labels, no augmentation."""
    config = DataConfig(shards=root, batch_size=feed.batch_size, backend=backend, threads=feed.threads, seed=feed.seed)
    with contextlib.ExitStack() as stack:
        loader = stack.enter_context(contextlib.closing(build_loader(config, "train", device=device, training=True)))
        to_planes = stack.enter_context(contextlib.closing(ToPlanes(feed.threads))) if planes else None
        batches = stack.enter_context(contextlib.closing(_endless(loader)))

        def step() -> int:
            batch = next(batches)
            if to_planes is not None and batch.image is not None:
                to_planes(batch.image)
            return len(batch)

        yield Session(step, torch.cuda.synchronize if device != "cpu" else lambda: None)


def _endless(loader: Loader) -> Generator[PoseBatch, None, None]:
    while True:
        yield from loader
