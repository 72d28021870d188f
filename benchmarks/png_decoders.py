"""PNG decoders, and running them on all cores; worker processes import this, so it loads little."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks.harness import Session
from tools.dataset.frames import decode_png

OURS: Final = "kornia-rs"
"""What tools.shard decodes with."""
_BLOCK: Final = 8
"""Frames a process takes at a time (frames)."""


@contextlib.contextmanager
def decoding(name: str, images: Sequence[Path], cores: int, *, per_frame: float = 1.0) -> Iterator[Session]:
    """Read and decode, nothing else, in a process on each core; ``per_frame`` images count as one item."""
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        step = blocks_of(images, cores, pool, partial(_decode_all, name))
        yield Session(lambda: round(step() / per_frame))


def blocks_of(
    images: Sequence[Path], cores: int, pool: Executor, function: Callable[[Sequence[Path]], int]
) -> Callable[[], int]:
    """Return a step that hands the next images out to processes, in blocks, and returns their number."""
    files = itertools.cycle(images)

    def step() -> int:
        blocks = [list(itertools.islice(files, _BLOCK)) for _ in range(4 * cores)]
        return sum(pool.map(function, blocks))

    return step


def _decode_all(name: str, paths: Sequence[Path]) -> int:
    decode = DECODERS[name][1]()
    for path in paths:
        decode(path.read_bytes())
    return len(paths)


def _kornia() -> Callable[[bytes], Any]:
    return partial(decode_png, "rgba")


def _opencv() -> Callable[[bytes], Any]:
    cv2.setNumThreads(1)
    return lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def _pillow() -> Callable[[bytes], Any]:
    from PIL import Image  # noqa: PLC0415

    return lambda content: np.asarray(Image.open(io.BytesIO(content)))


def _imagecodecs(name: str) -> Callable[[bytes], Any]:
    import imagecodecs  # noqa: PLC0415

    decode: Callable[[bytes], Any] = getattr(imagecodecs, name)
    return decode


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
    OURS: ((), _kornia),
    "OpenCV": ((), _opencv),
    "Pillow": (("PIL",), _pillow),
    "imagecodecs, libpng": (("imagecodecs",), partial(_imagecodecs, "png_decode")),
    "imagecodecs, spng": (("imagecodecs",), partial(_imagecodecs, "spng_decode")),
    "torchvision": (("torchvision",), _torchvision),
    "libvips": (("pyvips",), _libvips),
    "Wuffs": (("pywuffs",), _wuffs),
}
"""Decoders by name: the modules that must be there, and what makes the decoder in its process."""

EIGHT_BIT_ONLY: Final = {"Pillow", "Wuffs", "imagecodecs, spng"}
