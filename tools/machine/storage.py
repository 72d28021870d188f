"""A folder's disk: how fast it is, how much fits, and whether its file system has locks."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from loaders.system.locks import held
from loaders.system.os_errors import format_bytes, in_words
from tools.machine.finding import Finding

_MB: Final = 10**6
_CHUNK: Final = 16 * 2**20
_SIZE: Final = 16 * _CHUNK
"""Of the file that is written and read (bytes)."""
_SECONDS: Final = 5.0
"""After which a slow disk's file is left shorter (seconds)."""
LEAST_RATE: Final = 100 * _MB
"""What two cores decode: 3,000 frames of 34 kB, the default storage format (bytes per second)."""
LEAST_ROOM: Final = 10_000 * _MB
"""What `make demo` takes (bytes)."""


def rate(folder: str) -> Finding:
    """Write a file, and read it back from the disk."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = _write(file.fileno())
            read = _read(file.fileno())
    except OSError as error:
        error.filename = folder
        return Finding("missing", in_words(error))
    found = f"writes {format_bytes(written)}/s, reads {format_bytes(read)}/s"
    if read < LEAST_RATE:
        remedy = "keep shards on a faster disk; on a spinning one give --data.access sequential"
        return Finding("warning", f"{found}, which is less than two cores decode", remedy)
    return Finding("ok", found)


def _write(file: int) -> float:
    """Fill the file with bytes that no file system compresses; return the rate (bytes per second)."""
    chunk = os.urandom(_CHUNK)
    started = time.perf_counter()
    size = 0
    while size < _SIZE and time.perf_counter() - started < _SECONDS:
        size += os.write(file, chunk)
        os.fdatasync(file)
    return size / (time.perf_counter() - started)


def _read(file: int) -> float:
    """Read the file, which the page cache has forgotten; return the rate (bytes per second)."""
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    size = 0
    while time.perf_counter() - started < _SECONDS and (part := os.pread(file, _CHUNK, size)):
        size += len(part)
    return size / (time.perf_counter() - started)


def room(folder: str) -> Finding:
    """Tell how much may still be written."""
    usage = shutil.disk_usage(folder)
    found = f"{format_bytes(usage.free)} of {format_bytes(usage.total)} free"
    if usage.free < LEAST_ROOM:
        return Finding(
            "warning", found, f"make room, or give another --path: the demo takes {format_bytes(LEAST_ROOM)}"
        )
    return Finding("ok", found)


def locks(folder: str) -> Finding:
    """Lock a file, and see whether it can be locked a second time."""
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    with tempfile.TemporaryDirectory(dir=folder) as within:
        file = Path(within) / "lock"
        try:
            with held(file, exclusive), held(file, exclusive):
                return Finding(
                    "warning",
                    "its file system has none: two runs in one folder are not kept apart",
                    "see to it yourself; Lustre has them if it is mounted with -o flock",
                )
        except BlockingIOError:
            return Finding("ok", "a file is locked for everybody else")
