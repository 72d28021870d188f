"""What this process may use: the cores that it is bound to, and the cores and memory that control groups allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_MOUNTED: Final = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return the number of cores this process may use: those it is bound to, or less if a quota allows less time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, math.ceil(min(bound, cpu_quota())))


def cores_per_process() -> int:
    """Return this process's share of the cores, where torchrun started several on this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def cpu_quota(own: Path = _OWN, mounted: Path = _MOUNTED) -> float:
    """Return the cores' worth of time that this process may use, infinity without a quota.

    Quotas hold for everything below their group, so the least one on the way from this process's own group up counts.
    A file that is missing or says nothing intelligible sets none.

    Args:
        own: the file that lists this process's groups.
        mounted: the folder where the groups are mounted.
    """
    return min((_quota(folder) for folder in _folders("cpu", own, mounted)), default=math.inf)


def memory_limit(own: Path = _OWN, mounted: Path = _MOUNTED) -> float:
    """Return the memory that this process's groups may use (bytes), infinity without a limit; see `cpu_quota`."""
    return min((_limit(folder) for folder in _folders("memory", own, mounted)), default=math.inf)


def _folders(controller: str, own: Path, mounted: Path) -> Iterator[Path]:
    """Yield the folders of all groups that may limit this process in something; some may be missing."""
    try:
        lines = own.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    # a container may see its group as the root, beside a path that is the host's
    for line in ["0::/", f"1:{controller}:/", *lines]:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            roots = [mounted, mounted / "unified"]
        elif controller in controllers.split(","):
            roots = [mounted / controller, mounted / controllers]
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        groups = [] if ".." in group.parts else [group, *group.parents]
        yield from (root / folder for root in roots for folder in groups)


def _quota(folder: Path) -> float:
    """Return a group's own quota (cores), infinity if it has none."""
    try:
        if (version_2 := folder / "cpu.max").is_file():
            quota, period = version_2.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ArithmeticError):
        return math.inf
    return cores if cores > 0 else math.inf


def _limit(folder: Path) -> float:
    """Return a group's own limit of memory (bytes), infinity if it has none."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):  # "max"
            continue
    return math.inf
