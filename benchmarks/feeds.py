"""The loaders that `benchmarks.loader` compares, and what they are held against."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import torch

from benchmarks.data import AUGMENT, Frames
from benchmarks.harness import Candidate, Session, Target, not_installed
from benchmarks.peers.common import Batches, endless, torch_threads
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.peers.decoder_alone import decoder_alone
from benchmarks.peers.reference_way import RECIPE_BATCH, reference_way
from benchmarks.peers.spdl_pipeline import Decoder, ffmpeg_absent, spdl_pipeline
from benchmarks.peers.torch_dataloader import torch_dataloader
from benchmarks.peers.webdataset_torchvision import webdataset_torchvision
from loaders import AugmentConfig, DataConfig, ShardSet, build_loader
from loaders.system.cores import available_cores

if TYPE_CHECKING:
    from benchmarks.peers.ffcv_reader import Output

Backend = Literal["dali", "torch"]
Way = Callable[[], contextlib.AbstractContextManager[Batches]]
"""Starts a loader and gives its batches."""

_BACKENDS: Final[tuple[Backend, ...]] = ("dali", "torch")
_DECODERS: Final[tuple[Decoder, ...]] = ("spdl.io", "torchvision")
_FFCV_OUTPUTS: Final[dict[bool, dict[str, Output]]] = {
    False: {"": "uint8"},
    True: {"": "stock float32", " + one-pass planes": "one-pass float32"},
}
"""What is added to FFCV's name, by whether it ends in planes."""
_NO_RAW: Final = "no raw shards given"
_DALI: Final = ("nvidia.dali",)
_GROUPS: Final = {
    "uint8": "uint8 batch, on the CPU",
    "float32": "normalized float32 NCHW batch, on the CPU",
    "augmented": "augmented uint8 batch, on the CPU",
    "other": "uint8 batch from larger images, on the CPU",
    "gpu": "uint8 batch, on the GPU",
}
_DECODER: Final = "libjpeg-turbo alone, uint8"
_LARGE: Final = " JPEG 800"
_SOURCE: Final = " PNG 1280x800"
_GENERATED: Final = "measured on generated frames only"
_PLAIN: Final = AugmentConfig()


@dataclass(frozen=True)
class Feed:
    """What all loaders of a run share."""

    frames: Frames
    scratch: Path
    """Folder for the files of a loader that reads only its own."""
    scratch_samples: int
    """Most samples in such a file (samples)."""
    image_size: int
    """Side of the images in a batch (pixels)."""
    batch_size: int
    """Samples of a batch (samples)."""
    threads: int
    """Threads or worker processes of a loader (threads)."""
    seed: int


def prepare(feed: Feed) -> None:
    """Write the files of a loader that reads only its own, if it is installed."""
    if not_installed("ffcv"):
        return
    with torch_threads():  # importing it sets them
        from benchmarks.peers.ffcv_reader import write_beton  # noqa: PLC0415 - absent on some machines

    for root in filter(None, (feed.frames.jpeg, feed.frames.raw)):
        write_beton(root, _beton(feed, root), feed.scratch_samples, feed.threads)


def candidates(feed: Feed) -> list[Candidate]:
    """Return all ways, on the CPU and on the GPU."""
    on_the_cpu = (_on_the_cpu(feed, planes=False), _on_the_cpu(feed, planes=True), _augmented(feed))
    return [candidate for form in (*on_the_cpu, _from_larger(feed), _on_the_gpu(feed)) for candidate in form]


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
        Target("best backend, JPEG to float32, over DALI's reader + normalization", jpeg, reader, 1.35),
        Target("best backend, raw to float32, over DALI's reader (JPEG) + normalization", raw, reader, 4.5),
        Target("best backend, JPEG to float32, over webdataset + torchvision", jpeg, plain, 2.6),
        Target("best backend, JPEG to float32, over the reference way", jpeg, ("reference way, float32",), 60),
        Target("best backend, JPEG to uint8, over its decoder alone", ("ours torch, uint8",), (_DECODER,)),
        *(_over_ffcv(stored, planes) for planes in (False, True) for stored in ("JPEG", "raw")),
        *(
            Target(f"DALI loader, GPU, over DALI's reader, same graph{form}", (f"ours dali{form}, gpu",), (other,))
            for form in ("", _LARGE, _SOURCE)
            for other in (f"DALI reader{form}, gpu",)
        ),
    ]


def _over_ffcv(stored: str, planes: bool) -> Target:
    output = "float32" if planes else "uint8"
    ours = [f"ours {backend}{'' if stored == 'JPEG' else ' raw'}, {output}" for backend in _BACKENDS]
    theirs = [f"FFCV {stored}{added}, {output}" for added in _FFCV_OUTPUTS[planes]]
    return Target(f"best backend, {stored} to {output}, over FFCV's best from {stored}", ours, theirs)


def _on_the_cpu(feed: Feed, *, planes: bool) -> Iterator[Candidate]:
    output = "float32" if planes else "uint8"
    for one in (*_ours_on_the_cpu(feed, planes), *_peers(feed, planes), *_reference(feed, planes)):
        yield Candidate(
            f"{one.name}, {output}", one.open, _GROUPS[output], needs=one.needs, absent=one.absent, ours=one.ours
        )
    if not planes:
        alone = partial(decoder_alone, feed.frames.jpeg, feed.batch_size, feed.threads)
        yield Candidate(_DECODER, alone, _GROUPS[output])


def _ours_on_the_cpu(feed: Feed, planes: bool) -> Iterator[Candidate]:
    for stored, root in (("", feed.frames.jpeg), (" raw", feed.frames.raw)):
        for backend in _BACKENDS:
            start = partial(_ours, root or feed.frames.jpeg, backend, "cpu", feed, planes=planes)
            yield _our_candidate(f"ours {backend}{stored}", start, backend, absent="" if root else _NO_RAW)


def _augmented(feed: Feed) -> Iterator[Candidate]:
    for backend in _BACKENDS:
        start = partial(_ours, feed.frames.jpeg, backend, "cpu", feed, augment=AUGMENT)
        yield _our_candidate(f"ours {backend}, augmented", start, backend, _GROUPS["augmented"])


def _our_candidate(
    name: str,
    start: Callable[[], contextlib.AbstractContextManager[Session]],
    backend: Backend,
    group: str = "",
    *,
    absent: str = "",
) -> Candidate:
    return Candidate(name, start, group, needs=_DALI if backend == "dali" else (), absent=absent, ours=True)


def _peers(feed: Feed, planes: bool) -> Iterator[Candidate]:
    """Yield the loaders of others that read the shard set, or a copy of it in their own format."""

    def peer(name: str, way: Way, *needs: str, absent: str = "") -> Candidate:
        return Candidate(name, partial(_session, way), needs=needs, absent=absent)

    shared = (feed.frames.jpeg, feed.batch_size, feed.threads)
    yield peer(
        f"DALI reader{' + crop_mirror_normalize' * planes}",
        _reader(feed, feed.frames.jpeg, "cpu", planes=planes),
        *_DALI,
    )
    for stored, root in (("JPEG", feed.frames.jpeg), ("raw", feed.frames.raw)):
        for added, output in _FFCV_OUTPUTS[planes].items():
            way = partial(_ffcv, root or feed.frames.jpeg, output, feed)
            yield peer(f"FFCV {stored}{added}", way, "ffcv", absent="" if root else _NO_RAW)
    for decoder in _DECODERS:
        absent = ffmpeg_absent() if decoder == "spdl.io" else ""
        way = partial(spdl_pipeline, *shared, decoder=decoder, planes=planes, seed=feed.seed)
        yield peer(f"SPDL + {decoder}", way, "spdl.pipeline", decoder, absent=absent)
    way = partial(torch_dataloader, *shared, planes=planes, seed=feed.seed)
    yield peer("torch DataLoader + torchvision", way, "torchvision")
    way = partial(webdataset_torchvision, *shared, planes=planes, seed=feed.seed)
    yield peer("webdataset + torchvision", way, "webdataset", "torchvision")


def _reference(feed: Feed, planes: bool) -> Iterator[Candidate]:
    if not planes:
        return
    batch_size = min(feed.batch_size, RECIPE_BATCH)
    way = partial(reference_way, feed.frames.dataset or Path(), batch_size, feed.threads, seed=feed.seed)
    absent = "" if feed.frames.dataset else "no frames given: --dataset"
    yield Candidate("reference way", partial(_session, way), needs=("skimage",), absent=absent)


def _larger(feed: Feed) -> Iterator[tuple[str, Path, str]]:
    """Yield name, shard set, and why it is absent, of images that are resized when they are loaded."""
    for form, root in ((_LARGE, feed.frames.large), (_SOURCE, feed.frames.source)):
        yield form, root or feed.frames.jpeg, "" if root else _GENERATED


def _from_larger(feed: Feed) -> Iterator[Candidate]:
    group = _GROUPS["other"]
    for form, root, absent in _larger(feed):
        for backend in _BACKENDS:
            start = partial(_ours, root, backend, "cpu", feed)
            yield _our_candidate(f"ours {backend}{form}, uint8", start, backend, group, absent=absent)
        start = partial(_session, _reader(feed, root, "cpu"))
        yield Candidate(f"DALI reader{form}, uint8", start, group, needs=_DALI, absent=absent)


def _on_the_gpu(feed: Feed) -> Iterator[Candidate]:
    group, no_gpu = _GROUPS["gpu"], "" if torch.cuda.is_available() else "no GPU"
    for form, root, absent in (("", feed.frames.jpeg, ""), *_larger(feed)):
        why = no_gpu or absent
        ours = partial(_ours, root, "dali", "cuda:0", feed)
        yield _our_candidate(f"ours dali{form}, gpu", ours, "dali", group, absent=why)
        theirs = partial(_session, _reader(feed, root, "cuda:0"), "cuda:0")
        yield Candidate(f"DALI reader{form}, gpu", theirs, group, needs=_DALI, absent=why)


def _reader(feed: Feed, root: Path, device: str, *, planes: bool = False) -> Way:
    return partial(
        dali_reader,
        *(root, feed.batch_size, feed.threads),
        device=torch.device(device),
        image_size=feed.image_size,
        planes=planes,
        seed=feed.seed,
    )


@contextlib.contextmanager
def _session(way: Way, device: str = "cpu") -> Iterator[Session]:
    with way() as batches:
        yield _on(device, lambda: sum(len(next(batches.stream)[0]) for _ in range(batches.at_once)))


def _on(device: str, step: Callable[[], int]) -> Session:
    """Return a session of a device; beside one on a GPU stands how busy it keeps the host."""
    if device == "cpu":
        return Session(step)
    last = [time.perf_counter(), time.process_time()]

    def figures() -> dict[str, float]:
        now = [time.perf_counter(), time.process_time()]
        wall, busy = (b - a for a, b in zip(last, now, strict=True))
        last[:] = now
        return {"host CPU share": busy / (wall * available_cores())}

    return Session(step, torch.cuda.synchronize, figures)


@contextlib.contextmanager
def _ffcv(root: Path, output: Output, feed: Feed) -> Iterator[Batches]:
    from benchmarks.peers.ffcv_reader import ffcv_reader  # noqa: PLC0415 - absent on some machines

    epoch = len(ShardSet(root, "train"))
    with ffcv_reader(
        _beton(feed, root), epoch, feed.batch_size, feed.threads, output=output, seed=feed.seed
    ) as batches:
        yield batches


def _beton(feed: Feed, root: Path) -> Path:
    return feed.scratch / ("jpeg.beton" if root == feed.frames.jpeg else "raw.beton")


@contextlib.contextmanager
def _ours(
    root: Path, backend: Backend, device: str, feed: Feed, *, planes: bool = False, augment: AugmentConfig = _PLAIN
) -> Iterator[Session]:
    """Our loader: training order, all labels."""
    dtype: Literal["uint8", "float32"] = "float32" if planes else "uint8"
    config = DataConfig(
        shards=root,
        batch_size=feed.batch_size,
        image_size=feed.image_size,
        backend=backend,
        threads=feed.threads,
        seed=feed.seed,
        augment=augment,
    )
    with (
        contextlib.closing(build_loader(config, "train", device=device, training=True, dtype=dtype)) as loader,
        contextlib.closing(endless(loader)) as batches,
    ):
        yield _on(device, lambda: len(next(batches)))
