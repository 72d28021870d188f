"""Locks on folders; they end with the process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from loaders.errors import InputError


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make a folder if need be and keep a second run out of it. Raises InputError if one is at work."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        with held(output, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        raise InputError(f"another run is writing {output}: wait for it, or give another --output") from None


@contextlib.contextmanager
def held(folder: Path, kind: int) -> Iterator[None]:
    """Hold a lock on a folder, of the kind that `fcntl.flock` takes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
