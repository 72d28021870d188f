"""Make a contact sheet of a shard set or of a network's worst frames: ``python -m tools.browse --shards SHARDS``.

The sheet is one HTML page that needs no other file and no network.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.cli.command import OK, Command, command
from engine.precision import PrecisionName
from loaders import InputError, ReaderConfig, ShardSet
from loaders.format.shard_set import output_members
from loaders.ranges import Range, check_ranges
from loaders.system.files import write_whole
from loaders.system.os_errors import format_bytes
from tools.browsing.choice import Order, choose
from tools.browsing.results import MOST, predict
from tools.browsing.sheet import sheet_page


@dataclass(frozen=True, kw_only=True)
class BrowseFlags(Command):
    """Flags of ``tools.browse``."""

    shards: Path
    """Folder of the shard set (path); it must hold images."""
    output: Path
    """Page to write (path): NAME.html; what is there is replaced."""
    checkpoint: tuple[Path, ...] = ()
    """One checkpoint, or two to compare (paths); ours or the reference code's. They predict the whole split."""
    split: Literal["train", "val", "test"] = "val"
    """Which frames."""
    frames: int = 120
    """How many to show (frames)."""
    order: Order | None = None
    """Which to show: worst or best by the first checkpoint's error, the largest difference of two, or a spread over
    actions and recordings. None is worst, and without a checkpoint spread."""
    image_size: int = 256
    """Side of the images in the page (pixels); smaller ones stay as they are."""
    batch_size: int = 32
    """Images that a network takes at once (images)."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks compute; auto takes the GPU if there is one."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_ranges(self, "--", frames=Range(1), image_size=Range(32), batch_size=Range(1))
        given = len(self.checkpoint)
        if given > MOST:
            raise InputError(f"--checkpoint names {given} files: give one, or two to compare")
        if self.order in ("worst", "best") and not given:
            raise InputError(f"--order {self.order} goes by a network's errors: give --checkpoint FILE")
        if self.order == "difference" and given < MOST:
            raise InputError("--order difference compares two networks: give --checkpoint FILE FILE")
        if self.output.suffix != ".html":
            raise InputError(f"{self.output} does not end in .html, by which browsers know a page")

    @property
    def chosen_order(self) -> Order:
        """The order, or what it is by default."""
        return self.order or ("worst" if self.checkpoint else "spread")


@command("tools.browse", "Make a contact sheet of a shard set, or of the frames where networks do worst: an HTML page.")
def main(flags: BrowseFlags) -> int:
    """Write the sheet and return the exit status."""
    shard_set = ShardSet(flags.shards, flags.split)
    if not len(shard_set):
        raise InputError(f"{shard_set.folder} has no samples: give another --split")
    output_members(shard_set, ["image"])  # or an error, before networks run for long
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    reader = ReaderConfig(shards=flags.shards, batch_size=flags.batch_size)
    results = []
    if flags.checkpoint:
        results = predict(flags.checkpoint, reader, flags.split, device=flags.device, precision=flags.precision)
    _, meta = shard_set.labels()
    shown = choose(flags.chosen_order, meta, [result.errors for result in results], flags.frames)
    page = sheet_page(shard_set, shown, results, order=flags.chosen_order, image_size=flags.image_size).encode()
    write_whole(flags.output, page)
    for result in results:
        sys.stdout.write(
            f"{result.checkpoint}: mean error {result.errors.mean():.1f} {result.unit} over {len(shard_set):,} frames\n"
        )
    sys.stdout.write(f"{flags.output}: {len(shown)} of {len(shard_set):,} frames, {format_bytes(len(page))}\n")
    return OK


if __name__ == "__main__":
    sys.exit(main())
