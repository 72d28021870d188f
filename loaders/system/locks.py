"""Locks on folders and files; they end with the process, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loaders.errors import InputError, warn_once

_NO_LOCKS: Final = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems without locks answer: Lustre mounted without them, NFS without its lock service, some of FUSE's."""


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
    """Hold a lock of the kind that `fcntl.flock` takes on a folder, or on a file, which is made if need be.

    Where the file system has no locks, warn and go on.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise OSError(error.errno, error.strerror, str(path)) from None
            warn_once(
                "locks",
                f"the file system of {path} has no locks ({error.strerror}): see to it yourself that no two runs "
                "write there at the same time",
            )
        yield
    finally:
        os.close(descriptor)
