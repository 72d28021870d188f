"""What each form of the stored image costs, in fidelity and in bytes: ``python -m benchmarks.fidelity``."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import data, machine
from benchmarks.harness import RESULTS
from benchmarks.results import heading, table, write_result
from engine.cli.command import OK, Command, command
from loaders.errors import InputError
from loaders.preprocessing import Format, Preprocessing
from models.camera import XR_EGOPOSE
from tools.dataset.frames import encode_image

QUALITIES: Final = (90, 95, 98)


@dataclass(frozen=True, kw_only=True)
class FidelityFlags(Command):
    """Flags of ``benchmarks.fidelity``."""

    frames: int = 64
    """Generated frames (frames)."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    output: Path = RESULTS
    """Folder for the result: json and md."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.frames < 4 or not 32 <= self.image_size <= 800:
            raise InputError("--frames must be at least 4, --image-size 32 to 800")


@dataclass(frozen=True)
class Row:
    """A form of the stored image."""

    form: str
    bytes_per_frame: float
    psnr: float | None
    """Against the lossless square, mean over frames (dB); None if nothing is lost."""
    difference: float | None
    """Mean absolute difference to the lossless square (gray levels)."""


@command("benchmarks.fidelity", "Compare the stored images with the lossless square.")
def main(flags: FidelityFlags) -> int:
    """Measure and publish."""
    with data.temporary_folder() as folder:
        data.synthesize(folder, flags.frames, ("rgba", "json"))
        contents = [path.read_bytes() for path in sorted(folder.glob("TrainSet/*/*/cam_down/rgba/*.png"))]
    raw = [_encode(content, "raw", flags.image_size) for content in contents]
    lossless = [np.load(io.BytesIO(content)) for content in raw]
    rows = [
        *(_jpeg(contents, lossless, flags.image_size, quality) for quality in QUALITIES),
        _exact("png", [_encode(content, "png", flags.image_size) for content in contents]),
        _exact("raw", raw),
        _exact("source, 1280x800", contents),
    ]
    _publish(flags, rows, len(contents))
    return OK


def _encode(content: bytes, image_format: Format, size: int, quality: int = 95) -> bytes:
    return encode_image(content, Preprocessing.of(image_format, size, quality, XR_EGOPOSE))


def _jpeg(contents: Sequence[bytes], lossless: Sequence[NDArray[np.uint8]], size: int, quality: int) -> Row:
    stored = [_encode(content, "jpeg", size, quality) for content in contents]
    differences = [
        np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB), np.float64) - square
        for content, square in zip(stored, lossless, strict=True)
    ]
    psnr = [10 * np.log10(255**2 / np.mean(difference**2)) for difference in differences]
    absolute = [np.abs(difference).mean() for difference in differences]
    return Row(f"jpeg, quality {quality}", _mean_size(stored), float(np.mean(psnr)), float(np.mean(absolute)))


def _exact(form: str, stored: Sequence[bytes]) -> Row:
    return Row(form, _mean_size(stored), None, None)


def _mean_size(stored: Sequence[bytes]) -> float:
    return float(np.mean([len(content) for content in stored]))


def _publish(flags: FidelityFlags, rows: Sequence[Row], frames: int) -> None:
    content: dict[str, Any] = {
        "benchmark": "fidelity",
        **machine.origin("benchmarks.fidelity"),
        "frames": frames,
        "image_size": flags.image_size,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    shown = table(
        ("form", "kB per frame", "PSNR (dB)", "mean difference (gray levels)"),
        [
            (
                row.form,
                f"{row.bytes_per_frame / 1e3:,.1f}",
                "exact" if row.psnr is None else f"{row.psnr:.1f}",
                "0" if row.difference is None else f"{row.difference:.2f}",
            )
            for row in rows
        ],
    )
    page = [
        *heading("Fidelity of the stored image", content),
        f"{frames} generated frames at {flags.image_size} pixels, against the lossless square of the same size.",
        "",
        shown,
    ]
    write_result(flags.output, content, "\n".join(page))
    sys.stdout.write(shown)


if __name__ == "__main__":
    sys.exit(main())
