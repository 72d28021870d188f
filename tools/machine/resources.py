"""What the operating system lets this process use: cores, memory, shared memory, open files."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import shutil
from pathlib import Path
from typing import Final

from loaders.system.cores import available_cores, cpu_quota, memory_limit
from loaders.system.os_errors import format_bytes
from tools.machine.finding import Finding

_GB: Final = 10**9
LEAST_MEMORY: Final = 2 * _GB
"""What a process that trains or loads needs, and a little more (bytes)."""
LEAST_SHARED: Final = _GB
"""Containers have 64 MB unless they are told otherwise (bytes)."""
_SHARDS: Final = 128
"""More shards than the release makes, which has 93 at the default of 4096 samples."""


def cores() -> Finding:
    """Count the cores that this process may use."""
    usable, quota = available_cores(), cpu_quota()
    limits = [f"a quota of {quota:g} cores"] if math.isfinite(quota) else []
    bound = len(os.sched_getaffinity(0))
    if bound < (os.cpu_count() or 1):
        limits.append(f"bound to {bound}")
    found = ", ".join([f"{usable} of the machine's {os.cpu_count()}", *limits])
    if usable == 1:
        remedy = "give it more: a container by --cpus, a SLURM job by --cpus-per-task"
        return Finding("warning", f"{found}: loading and training take turns", remedy)
    return Finding("ok", found)


def memory() -> Finding:
    """Tell the memory that is free, and the limit of this process's control groups."""
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    total, free = (
        int(re.findall(rf"^{name}:\s*(\d+) kB", text, re.M)[0]) * 1024 for name in ("MemTotal", "MemAvailable")
    )
    limit = memory_limit()
    limited = f", limited to {format_bytes(limit)}" if limit < total else ""
    found = f"{format_bytes(free)} of {format_bytes(total)} free{limited}"
    if min(free, limit) < LEAST_MEMORY:
        remedy = (
            f"have {format_bytes(LEAST_MEMORY)} for each process that trains: end other programs, or raise the limit"
        )
        return Finding("warning", found, remedy)
    return Finding("ok", found)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Look whether processes can share memory."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        return Finding(
            "missing", f"processes cannot share a lock ({error.strerror})", f"mount {folder}, writable for everybody"
        )
    free = shutil.disk_usage(folder).free
    found = f"{format_bytes(free)} free in {folder}"
    if free < LEAST_SHARED:
        return Finding(
            "warning", f"{found}: too little for NCCL between GPUs", "start the container with --shm-size 8g"
        )
    return Finding("ok", found)


def open_files() -> Finding:
    """See whether all shards of the release could be open at once."""
    import resource  # noqa: PLC0415

    from loaders.system.open_files import OpenFilesError, allow_open_files  # noqa: PLC0415

    soft, hard = (
        "unlimited" if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    try:
        allow_open_files(_SHARDS)
    except OpenFilesError as error:
        found, _, remedy = str(error).partition(": ")
        return Finding("warning", f"for data.access sequential {found}", remedy)
    return Finding("ok", f"{soft} at once" + (f", {hard} if a command raises the limit" if hard != soft else ""))
