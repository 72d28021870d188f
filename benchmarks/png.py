"""Frames per second of PNG decoders: ``python -m benchmarks.png``."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Session, Target, at_least, measure
from benchmarks.results import Result, publish
from engine.command import OK, run
from loaders.config import available_cores
from tools.allocation import keep_freed_memory
from tools.frames import decode_png

OURS: Final = "as sharding decodes"
"""The decoder that tools.shard uses, with freed memory kept."""
_BLOCK: Final = 8
"""Frames a process takes at a time (frames)."""


@dataclass(frozen=True, kw_only=True)
class PngFlags(BenchmarkFlags):
    """Flags of ``benchmarks.png``."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    frames: int = 32
    """Generated frames (frames)."""
    threads: int = 0
    """Cores to use, one process on each (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, threads=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def action(flags: PngFlags) -> int:
        benchmark(flags)
        return OK

    return run(PngFlags, action, program="benchmarks.png", description="Measure PNG decoders.", arguments=arguments)


def benchmark(flags: PngFlags) -> Result:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    with data.temporary_folder() as folder:
        data.synthesize(folder / "generated", flags.frames, ("rgba", "json", "worldp"))
        kinds = {
            "generated RGB": sorted(folder.glob("generated/TrainSet/**/rgba/*.png")),
            "libpng RGB": [*rewritten(folder / "generated", folder / "rgb")],
            "libpng RGBA": [*rewritten(folder / "generated", folder / "rgba", alpha=True)],
            "16 bit RGB": sorted(folder.glob("generated/TrainSet/**/worldp/*.png")),
        }
        found = [
            Candidate(
                f"{name}, {kind}",
                partial(decoding, name, pictures, cores),
                kind,
                "frames/s",
                DECODERS[name][0],
                _unable(name, kind),
                ours=name == OURS,
            )
            for kind, pictures in kinds.items()
            for name in DECODERS
        ]
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup)
    targets = [
        Target(f"as sharding decodes, over {what}, {kind}", (f"{OURS}, {kind}",), tuple(f"{n}, {kind}" for n in names))
        for kind in kinds
        for what, names in (
            ("OpenCV", ("OpenCV",)),
            ("the fastest other", tuple(n for n in DECODERS if n not in {OURS, "kornia-rs"})),
        )
    ]
    return publish("png", flags, measured, targets, chosen={"threads": cores})


def rewritten(root: Path, output: Path, *, alpha: bool = False) -> Iterator[Path]:
    """Write a dataset's training pictures as most programs would: libpng's filters, zlib's level 6.

    Args:
        root: of the dataset.
        output: where the same folders appear; other modalities as hard links.
        alpha: with a fourth channel, opaque.

    Yields:
        The pictures' paths.
    """
    from PIL import Image  # noqa: PLC0415 - tools.shard runs without it

    for path in sorted(root.glob("TrainSet/*/*/cam_down/*/*")):
        copy = output / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "rgba":
            Image.open(path).convert("RGBA" if alpha else "RGB").save(copy)
            yield copy
        else:
            copy.hardlink_to(path)


@contextlib.contextmanager
def decoding(name: str, pictures: Sequence[Path], cores: int, *, per_frame: float = 1.0) -> Iterator[Session]:
    """Read and decode, nothing else, in a process on each core; ``per_frame`` pictures count as one item."""
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        step = blocks_of(pictures, cores, pool, partial(_decode_all, name))
        yield Session(lambda: round(step() / per_frame))


def blocks_of(
    pictures: Sequence[Path], cores: int, pool: Executor, function: Callable[[Sequence[Path]], int]
) -> Callable[[], int]:
    """Return a step that hands the next pictures out to processes, in blocks, and returns their number."""
    files = itertools.cycle(pictures)

    def step() -> int:
        blocks = [list(itertools.islice(files, _BLOCK)) for _ in range(4 * cores)]
        return sum(pool.map(function, blocks))

    return step


def _decode_all(name: str, paths: Sequence[Path]) -> int:
    decode = DECODERS[name][1]()
    for path in paths:
        decode(path.read_bytes())
    return len(paths)


def _unable(name: str, kind: str) -> str:
    return f"{name} decodes to 8 bit only" if kind.startswith("16 bit") and name in _EIGHT_BIT else ""


def _ours() -> Callable[[bytes], Any]:
    keep_freed_memory()
    return partial(decode_png, "rgba")


def _kornia() -> Callable[[bytes], Any]:
    return partial(decode_png, "rgba")


def _opencv() -> Callable[[bytes], Any]:
    cv2.setNumThreads(1)
    return lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def _pillow() -> Callable[[bytes], Any]:
    from PIL import Image  # noqa: PLC0415

    return lambda content: np.asarray(Image.open(io.BytesIO(content)))


def _imagecodecs_libpng() -> Callable[[bytes], Any]:
    import imagecodecs  # noqa: PLC0415

    return partial(imagecodecs.png_decode)


def _imagecodecs_spng() -> Callable[[bytes], Any]:
    import imagecodecs  # noqa: PLC0415

    return partial(imagecodecs.spng_decode)


def _torchvision() -> Callable[[bytes], Any]:
    import torch  # noqa: PLC0415
    from torchvision.io import decode_png as decode  # noqa: PLC0415

    torch.set_num_threads(1)
    return lambda content: decode(torch.frombuffer(bytearray(content), dtype=torch.uint8))


def _libvips() -> Callable[[bytes], Any]:
    import pyvips  # noqa: PLC0415

    pyvips.concurrency_set(1)
    return lambda content: pyvips.Image.new_from_buffer(content, "").numpy()


def _wuffs() -> Callable[[bytes], Any]:
    from pywuffs import PixelFormat  # noqa: PLC0415
    from pywuffs.aux import ImageDecoder, ImageDecoderConfig  # noqa: PLC0415

    config = ImageDecoderConfig()
    config.pixel_format = PixelFormat.BGR
    return lambda content: ImageDecoder(config).decode(content).pixbuf


DECODERS: Final[dict[str, tuple[tuple[str, ...], Callable[[], Callable[[bytes], Any]]]]] = {
    OURS: ((), _ours),
    "kornia-rs": ((), _kornia),
    "OpenCV": ((), _opencv),
    "Pillow": (("PIL",), _pillow),
    "imagecodecs, libpng": (("imagecodecs",), _imagecodecs_libpng),
    "imagecodecs, spng": (("imagecodecs",), _imagecodecs_spng),
    "torchvision": (("torchvision",), _torchvision),
    "libvips": (("pyvips",), _libvips),
    "Wuffs": (("pywuffs",), _wuffs),
}
"""Decoders by name: the modules that must be there, and what makes the decoder in its process."""

_EIGHT_BIT: Final = {"Pillow", "Wuffs", "imagecodecs, spng"}


if __name__ == "__main__":
    sys.exit(main())
