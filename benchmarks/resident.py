"""Memory of this process while it loads, epoch by epoch; `benchmarks.memory` starts it and reads what it prints."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.data import AUGMENT
from engine.cli.command import OK, Command, command
from loaders import DataConfig, build_loader

SIZES: Final = Path("/proc/self/smaps_rollup")
"""Where Linux adds up the pages of a process."""
_MAPPINGS: Final = Path("/proc/self/smaps")
_TARS: Final = re.compile(r"^[0-9a-f]+-[0-9a-f]+ .*\.tar\n(?:.*\n)*?Rss: +(\d+) kB$", re.MULTILINE)
"""Resident pages of a mapped shard (KiB), in the kernel's account of all mappings."""
_PEAK: Final = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class ResidentFlags(Command):
    """Flags of ``benchmarks.resident``."""

    shards: Path
    """Shard set."""
    backend: Literal["dali", "torch"]
    """Who decodes."""
    epochs: int
    """Epochs of the training split (epochs)."""
    batch_size: int
    """Samples of a batch (samples)."""
    threads: int
    """Decoding threads (threads)."""
    seed: int
    """Of order and augmentation (integer)."""


@command("benchmarks.resident", "Memory of loading.")
def main(flags: ResidentFlags) -> int:
    """Load all epochs, augmented; print the sizes after each, the peak, and the mapped shards (MiB), as JSON."""
    config = DataConfig(
        shards=flags.shards,
        batch_size=flags.batch_size,
        backend=flags.backend,
        augment=AUGMENT,
        seed=flags.seed,
        threads=flags.threads,
    )
    series: dict[str, list[float]] = {"resident": [], "proportional": [], "anonymous": []}
    with contextlib.closing(build_loader(config, "train", training=True)) as loader:
        batches = len(loader)
        for _ in range(flags.epochs):
            deque(loader, maxlen=0)
            for name, field in (("resident", "Rss"), ("proportional", "Pss"), ("anonymous", "Anonymous")):
                series[name].append(_mebibytes(SIZES, field))
        tars = sum(map(int, _TARS.findall(_MAPPINGS.read_text(encoding="utf-8")))) / 1024
    content: dict[str, Any] = {
        "batches": batches,
        "series": series,
        "peak": _mebibytes(_PEAK, "VmHWM"),
        "tars": tars,
    }
    sys.stdout.write(json.dumps(content))
    return OK


def _mebibytes(path: Path, field: str) -> float:
    """Return a field of the kernel's account, which is in KiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", path.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"{path} has no {field}")
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
