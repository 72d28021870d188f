"""Locks on folders; they end with the process, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loaders.errors import InputError
from loaders.warn import warn_once

_NO_LOCKS: Final = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems without locks answer: Lustre mounted without them, NFS without its lock service, some of FUSE's."""


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
    """Hold a lock on a folder, of the kind that `fcntl.flock` takes; warn where the file system has none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise OSError(error.errno, error.strerror, str(folder)) from None
            warn_once(
                "locks",
                f"the file system of {folder} has no locks ({error.strerror}): see to it yourself that no two runs "
                "write there at the same time",
            )
        yield
    finally:
        os.close(descriptor)
