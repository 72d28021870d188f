"""Locks on folders and files; they end with the process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from loaders.errors import InputError


@contextlib.contextmanager
def locked(output: Path, *, flag: str = "--output", file: str = "") -> Iterator[None]:
    """Make a folder if need be and keep a second run out of it.

    Args:
        output: the folder.
        flag: what gave it.
        file: name of an empty file in the folder to lock: on NFS other machines see a file's lock, not a folder's.

    Raises:
        InputError: another run is at work.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        with held(output / file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        raise InputError(f"another run is writing {output}: wait for it, or give another {flag}") from None


@contextlib.contextmanager
def held(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock on a folder, or on a file which may be made, of the kind that `fcntl.flock` takes."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
