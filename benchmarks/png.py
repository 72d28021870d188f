"""Frames per second of PNG decoders: ``python -m benchmarks.png``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Target, at_least, measure
from benchmarks.machine import versions_of
from benchmarks.png_decoders import DECODERS, EIGHT_BIT_ONLY, OURS, decoding
from benchmarks.results import Result, publish
from engine.cli.command import OK, command
from loaders.system.cores import available_cores

Kind = Literal["generated", "libpng RGB", "libpng RGBA", "16 bit worldp"]


@dataclass(frozen=True, kw_only=True)
class PngFlags(BenchmarkFlags):
    """Flags of ``benchmarks.png``."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    frames: int = 32
    """Generated frames (frames)."""
    kinds: tuple[Kind, ...] = ("generated", "libpng RGB", "libpng RGBA", "16 bit worldp")
    """PNGs as tools.synthesize writes them, fast and with one filter; as libpng does by default, like most programs."""
    threads: int = 0
    """Cores to use, one process on each (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, threads=0)


@command("benchmarks.png", "Measure PNG decoders.")
def main(flags: PngFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: PngFlags) -> Result:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    with data.temporary_folder() as folder:
        data.synthesize(folder / "generated", flags.frames, ("rgba", "json", "worldp"))
        found = [
            Candidate(
                f"{name}, {kind}",
                partial(decoding, name, images, cores),
                kind,
                "frames/s",
                DECODERS[name][0],
                _unable(name, kind),
                ours=name == OURS,
            )
            for kind in flags.kinds
            for images in [_images(folder, kind)]
            for name in DECODERS
        ]
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup)
    others = tuple(name for name in DECODERS if name != OURS)
    targets = [
        Target(f"{OURS} over {what}, {kind}", (f"{OURS}, {kind}",), tuple(f"{name}, {kind}" for name in names))
        for kind in flags.kinds
        for what, names in (("OpenCV", ("OpenCV",)), ("the fastest other", others))
    ]
    decoders = versions_of(("pillow", "imagecodecs", "pyvips", "pyvips-binary", "pywuffs"))
    return publish("png", flags, measured, targets, chosen={"threads": cores, "decoders": decoders})


def _images(folder: Path, kind: Kind) -> list[Path]:
    root, modality = folder / "generated", "rgba"
    if kind == "16 bit worldp":
        modality = "worldp"
    elif kind != "generated":
        root = folder / kind
        data.rewrite(folder / "generated", root, alpha=kind.endswith("RGBA"))
    return sorted(root.glob(f"TrainSet/**/{modality}/*.png"))


def _unable(name: str, kind: str) -> str:
    return f"{name} decodes to 8 bit only" if kind.startswith("16 bit") and name in EIGHT_BIT_ONLY else ""


if __name__ == "__main__":
    sys.exit(main())
