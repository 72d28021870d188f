"""Symbolic links within a subject: the release's later environments share the first one's folder of rotations."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NO_LINKS: Final = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems that have no links, such as FAT."""


def link(path: Path, to: str) -> bool:
    """Make a link; return False where the file system has none."""
    try:
        path.symlink_to(to)
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise
    return True


def links_below(folder: Path) -> Iterator[Path]:
    """Yield every link below a folder, none of which is followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield from links_below(Path(entry.path))


def target_inside(path: Path, folder: Path) -> str | None:
    """Return the target of a link, relative to the link's folder; None if it is not below ``folder``.

    ``folder`` contains the link. The target need not exist.
    """
    # realpath goes through loops and past what is missing, unlike Path.resolve
    end, top = os.path.realpath(path), os.path.realpath(folder)
    if not Path(end).is_relative_to(top):
        return None
    return os.path.relpath(end, os.path.realpath(path.parent))
