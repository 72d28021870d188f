"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loaders.system.os_errors import naming

PARTIAL: Final = ".partial"
"""Ending of files that are being written; one that is left over belongs to a run that was killed."""
_UNSYNCED: Final = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems that cannot wait for the disk answer: SMB and some of FUSE's, for folders above all."""
_UNOPENED: Final = {errno.EACCES, errno.EISDIR, *_UNSYNCED}
"""What is answered where a folder can be written and not opened."""


def is_data(name: str) -> bool:
    """Tell whether a file or folder of this name can be data: no command's temporary one, and none that is hidden.

    Hidden ones are companions and leftovers of other programs: ``._NAME`` and ``.DS_Store`` of macOS, ``.nfs...``.
    """
    return not name.startswith(".") and not name.endswith(PARTIAL)


def temporary_name(path: Path) -> Path:
    """Return an unused name beside ``path``. Two writers of the same file never share one."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def publish(temporary: Path, path: Path) -> None:
    """Give a written file its name, after its bytes have reached the disk."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give another name to write to; what is there in the end gets its own, and nothing is left if that fails."""
    temporary = temporary_name(path)
    with naming(path, instead_of=temporary):
        try:
            yield temporary
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it appears complete or not at all."""
    with appearing(path) as temporary:
        temporary.write_bytes(content)


def remove_partials(folder: Path) -> None:
    """Remove what killed runs left below ``folder``."""
    for path in folder.rglob("*" + PARTIAL):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, as far as its file system can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _UNOPENED and path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)
