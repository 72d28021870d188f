"""The members of a subject's tar, as far as they may be unpacked."""

from __future__ import annotations

import os
import reprlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from tools.archives.tar_stream import TarStream

_DEEPEST: Final = 200
"""Steps of the longest path; with a thousand, deleting a folder ends in a RecursionError."""
_GNU_FOLDER: Final = b"D"
"""A folder in a backup of GNU tar's; the list of its files follows."""
_GNU_LABEL: Final = b"V"
"""A name that GNU tar gives to the whole archive."""

_names: Final = reprlib.Repr()
_names.maxstring = 300
quoted: Final = _names.repr
"""Returns a name in quotes, without characters that cannot be printed and not longer than a message should be."""


class ArchiveError(Exception):
    """An archive is damaged or not to be trusted; the message names the part or the member."""


@dataclass(frozen=True)
class Member:
    """Something to be unpacked."""

    name: str
    """Path below the subject's folder; empty for that folder itself."""


@dataclass(frozen=True)
class Folder(Member):
    """A folder."""


@dataclass(frozen=True)
class File(Member):
    """A plain file."""

    content: Iterator[memoryview | int]
    """Piece by piece, in one buffer that is used again; a number is a hole of so many zeros (bytes)."""


@dataclass(frozen=True)
class HardLink(Member):
    """Another name of a file that came before."""

    target: str
    """The file's name, below the subject's folder as well."""


@dataclass(frozen=True)
class SymbolicLink(Member):
    """A link within the subject's folder; what it leads to need not be there."""

    target: str
    """Relative to the link's folder. It goes up first and then only down, so links on its way cannot lead it out."""


@dataclass(frozen=True)
class SkippedFrame(Member):
    """A hidden file whose place another one has."""


class MemberReader:
    """Reads the tars of one subject; what it hands out lies within the subject's folder.

    It allows less than tarfile's data filter and costs less: symbolic links come after everything else, so no member
    can be written through one and names alone say where it comes to lie. Owners, modes and times of the archive are
    left out.
    """

    def __init__(self, subject: str) -> None:
        """Prepare for the archive of ``subject``, which holds the folder of that name or what is in it."""
        self._subject = subject
        self._links: dict[str, tuple[list[str], str]] = {}
        """By name: a symbolic link's path in the archive, and what it says."""
        self._tops: dict[str, bool] = {}
        """By name: whether a member on top of the subject's folder stood in that folder in the archive."""

    def read(self, stream: TarStream) -> Iterator[Member]:
        """Yield the members of all tars in a stream. Raises what tarfile does, EOFError and ArchiveError."""
        while stream.begins():
            start = stream.tell()
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]  # it reads, seeks, tells
                for header in tar:
                    tar.members.clear()  # else the list grows with the archive
                    yield from self._members(header, stream.content(header, tar.offset))
            if any(stream.latest):  # tarfile takes a damaged header for the end
                first = stream.tell() == start + tarfile.BLOCKSIZE
                raise tarfile.ReadError("what follows the end of a tar is none" if first and start else "bad header")
        for name, (path, text) in self._links.items():
            yield SymbolicLink(name, self._resolve(path, text))

    def _members(self, header: tarfile.TarInfo, content: Iterator[memoryview | int]) -> Iterator[Member]:
        """Yield what becomes of a header; symbolic links are kept for later."""
        if header.type == _GNU_LABEL:
            return
        if header.issparse():  # tarfile may take a name that GNU tar made up for those who know no sparse files
            header.name = header.pax_headers.get("GNU.sparse.name", header.name)
        path = _steps(header.name, header.name)
        steps = self._below_subject(path)
        name = _join(*steps)
        above = next((parent for parent in accumulate(steps[:-1], _join) if parent in self._links), None)
        if above is not None:
            raise ArchiveError(f"{quoted(header.name)} lies below {quoted(above)}, which is a link: not unpacked")
        if steps and self._tops.setdefault(steps[0], path != steps) != (path != steps):
            if not steps[0].startswith("."):
                both = f"{quoted(steps[0])} and {quoted(_join(self._subject, steps[0]))}"
                raise ArchiveError(f"both {both} are in the archive: not unpacked")
            yield SkippedFrame(name)
            return
        self._links.pop(name, None)  # of a name that comes twice the later stays, as with tar
        if header.isdir() or header.type == _GNU_FOLDER:
            yield Folder(name)
        elif header.isreg():
            yield File(name, content)
        elif header.issym():
            yield from self._keep_link(name, path, header.linkname)
        elif header.islnk():
            target = _join(*self._below_subject(_steps(header.linkname, header.name)))
            if target in self._links:
                yield from self._keep_link(name, path, self._links[target][1])
            else:
                yield HardLink(name, target)
        else:
            raise ArchiveError(f"{quoted(header.name)} is neither a file nor a folder nor a link: not unpacked")

    def _keep_link(self, name: str, path: list[str], text: str) -> Iterator[Member]:
        self._resolve(path, text)  # here for links that a later member replaces, in the end once all links are known
        self._links[name] = path, text
        yield Folder(name.rpartition("/")[0])  # as long as there are no links

    def _below_subject(self, path: list[str]) -> list[str]:
        return path[1:] if path[:1] == [self._subject] else path

    def _resolve(self, path: list[str], text: str) -> str:
        """Return where a symbolic link leads. Raises ArchiveError if that is not in the subject's folder."""
        said = f"{quoted(_join(*path))} links to {quoted(text)}"
        outside = ArchiveError(f"{said}, which is outside the subject's folder: not unpacked")
        if not text or text.startswith("/") or "\0" in text:
            raise outside
        target = path[:-1]
        for step in text.split("/"):
            if step == "..":
                if not target:
                    raise outside
                if not self._links.keys().isdisjoint(accumulate(self._below_subject(target), _join)):
                    raise ArchiveError(f"{said}, which goes back out of a link: not unpacked")
                target.pop()
            elif step not in ("", "."):
                target.append(step)
        below = self._below_subject(path)
        if path != below and target[:1] != [self._subject]:
            raise outside
        return os.path.relpath(f"/{_join(*self._below_subject(target))}", f"/{_join(*below[:-1])}")


def _steps(name: str, whose: str) -> list[str]:
    """Return the steps of a path in the archive. Raises ArchiveError if it could do harm."""
    steps = name.split("/")
    if ".." in steps or name.startswith("/"):
        raise ArchiveError(f"{quoted(whose)} points outside the subject's folder: not unpacked")
    if "\0" in name:
        raise ArchiveError(f"{quoted(whose)} has an embedded null byte: not unpacked")
    steps = [step for step in steps if step not in ("", ".")]
    if len(steps) > _DEEPEST:
        raise ArchiveError(f"{quoted(whose)} is a path of {len(steps)} steps: not unpacked")
    return steps


def _join(*steps: str) -> str:
    return "/".join(steps)
