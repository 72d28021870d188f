"""Writing members to the disk, and comparing them with what is there."""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.archives.tar_members import (
    ArchiveError,
    File,
    Folder,
    HardLink,
    Member,
    SkippedFile,
    SymbolicLink,
    quoted,
)
from tools.archives.tar_stream import BUFFER
from tools.dataset.links import NO_LINKS, link

_UNSUPPORTED: Final = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}
"""Errors for names that are too long or not text, and for a file in place of a folder."""
_NAMED: Final = 5
"""Skipped members that are named at most."""


class MemberWriter:
    """Writes members below a folder. The later of two members with one name replaces the other, as with tar."""

    def __init__(self, folder: Path) -> None:
        """Write below ``folder``, which is empty."""
        self._folder = folder
        self._unlinked: dict[str, str] = {}
        self._doubles: list[str] = []

    def take(self, member: Member) -> None:
        """Write a member. Raises ArchiveError if the file system cannot hold it, and OSError."""
        path = self._folder / member.name
        self._unlinked.pop(member.name, None)
        try:
            match member:
                case Folder():
                    path.mkdir(parents=True, exist_ok=True)
                case File():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, member.content)
                case HardLink():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._link_hard(path, member)
                case SymbolicLink():
                    _remove_earlier(path)
                    if not link(path, member.target):
                        self._unlinked[member.name] = member.target
                case SkippedFile():
                    self._doubles.append(member.name)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            raise ArchiveError(f"{quoted(member.name)} cannot be written ({error.strerror}): not unpacked") from None

    def skipped(self) -> str:
        """Name the members that were skipped; empty if there are none."""
        links = [f"{quoted(name)} -> {quoted(target)}" for name, target in self._unlinked.items()]
        doubles = [quoted(name) for name in self._doubles]
        sentences = (
            _listed("not unpacked, for the file system has no links:", links),
            _listed("not unpacked, for another hidden file has the place:", doubles),
        )
        return "; ".join(filter(None, sentences))

    def _link_hard(self, path: Path, member: HardLink) -> None:
        target = self._folder / member.target
        if member.target in self._unlinked:
            self._unlinked[member.name] = member.target
        elif not target.is_file():
            raise ArchiveError(
                f"{quoted(member.name)} links to {quoted(member.target)}, which is no file before it: not unpacked"
            )
        elif not (path.exists() and path.samefile(target)):
            _remove_earlier(path)
            try:
                path.hardlink_to(target)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                self._unlinked[member.name] = member.target


def difference(folder: Path, member: Member) -> str:
    """Say how the unpacked file, folder or link differs from a member; empty if it does not."""
    unpacked = folder / member.name
    try:
        match member:
            case Folder():
                same = unpacked.is_dir()
            case File():
                same = _holds(unpacked, member.content)
            case HardLink():
                same = filecmp.cmp(unpacked, folder / member.target, shallow=False)
            case SymbolicLink():
                same = str(unpacked.readlink()) == member.target
            case _:
                return "is not unpacked"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if same else "differs"


def _write(path: Path, content: Iterator[memoryview | int]) -> None:
    try:
        file = path.open("xb")
    except FileExistsError:
        _remove_earlier(path)
        file = path.open("xb")
    with file:
        for piece in content:
            if isinstance(piece, int):
                file.truncate(file.seek(piece, os.SEEK_CUR))  # zeros that take no space on the disk
            else:
                file.write(piece)


def _remove_earlier(path: Path) -> None:
    """Remove an earlier member of the same name; its hard links keep the content."""
    if os.path.lexists(path):
        if path not in path.parent.iterdir():
            raise ArchiveError(f"{quoted(path.name)} is the same name as another's on this disk: not unpacked")
        path.unlink()


def _holds(path: Path, content: Iterator[memoryview | int]) -> bool:
    """Return whether a file has exactly this content."""
    with path.open("rb") as file:
        for piece in content:
            if isinstance(piece, int):
                sizes = (min(BUFFER, piece - start) for start in range(0, piece, BUFFER))
                same = all(file.read(size) == bytes(size) for size in sizes)
            else:
                same = file.read(len(piece)) == piece
            if not same:
                return False
        return not file.read(1)


def _listed(what: str, names: list[str]) -> str:
    """Name the first members and count the others; empty if there are none."""
    others = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what} {', '.join(names[:_NAMED])}{others}" if names else ""
