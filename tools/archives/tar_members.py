"""The members of a subject's tar, checked so that unpacking them is safe."""

from __future__ import annotations

import posixpath
import reprlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from tools.archives.tar_stream import TarStream

_DEEPEST: Final = 200
"""Most parts of a path; with a thousand, deleting the folder fails with a RecursionError."""
_GNU_FOLDER: Final = b"D"
"""Type of a folder in an incremental backup of GNU tar, followed by the list of its files."""
_GNU_LABEL: Final = b"V"
"""Type of the header with the volume label of GNU tar."""

_names: Final = reprlib.Repr()
_names.maxstring = 300
quoted: Final = _names.repr
"""Returns a name in quotes, shortened, with characters that cannot be printed escaped."""


class ArchiveError(Exception):
    """An archive is damaged or unsafe; the message names the part or the member."""


@dataclass(frozen=True)
class Member:
    """A file, folder or link to unpack."""

    name: str
    """Path below the subject's folder; empty for that folder itself."""


class Folder(Member):
    """A folder."""


@dataclass(frozen=True)
class File(Member):
    """A plain file."""

    content: Iterator[memoryview | int]
    """In pieces, which share one buffer; an integer is a hole of so many zeros (bytes)."""


@dataclass(frozen=True)
class HardLink(Member):
    """Another name of an earlier file."""

    target: str
    """Path of that file below the subject's folder."""


@dataclass(frozen=True)
class SymbolicLink(Member):
    """A link within the subject's folder, whose target need not exist."""

    target: str
    """Relative to the link's folder: first up, then only down, so that no other link can lead it out of the folder."""


class SkippedFile(Member):
    """A hidden file at the path of another one."""


class MemberReader:
    """Reads the tars of one subject and yields only members within the subject's folder.

    It is stricter and faster than tarfile's data filter: symbolic links come after all other members, so that no member
    can be written through one and names alone decide where a member is written. Owners, modes and times in the archive
    are ignored.
    """

    def __init__(self, subject: str) -> None:
        """Prepare for the archive of ``subject``, which has the folder of that name or its content at the top."""
        self._subject = subject
        self._links: dict[str, tuple[list[str], str]] = {}
        """By name: a symbolic link's path in the archive, and its text."""
        self._tops: dict[str, bool] = {}
        """By name of a member at the top of the subject's folder: whether the archive has it in that folder."""

    def read(self, stream: TarStream) -> Iterator[Member]:
        """Yield the members of all tars in a stream. Raises what tarfile does, EOFError and ArchiveError."""
        while stream.begins():
            start = stream.tell()
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]  # it has read, seek, tell
                for header in tar:
                    tar.members.clear()  # else the list grows with the archive
                    yield from self._members(header, stream.content(header, tar.offset))
            if any(stream.latest):  # tarfile takes a damaged header for the end of the tar
                first = stream.tell() == start + tarfile.BLOCKSIZE
                raise tarfile.ReadError("what follows the end of a tar is none" if first and start else "bad header")
        for name, (path, text) in self._links.items():
            yield SymbolicLink(name, self._resolve(path, text))

    def _members(self, header: tarfile.TarInfo, content: Iterator[memoryview | int]) -> Iterator[Member]:
        """Yield the members of a header; symbolic links are kept until the end."""
        if header.type == _GNU_LABEL:
            return
        if header.issparse():  # for programs without sparse files GNU tar makes up a name, which tarfile may take
            header.name = header.pax_headers.get("GNU.sparse.name", header.name)
        path = _parts(header.name, header.name)
        parts = self._below_subject(path)
        name = "/".join(parts)
        above = next((parent for parent in accumulate(parts[:-1], posixpath.join) if parent in self._links), None)
        if above is not None:
            raise ArchiveError(f"{quoted(header.name)} lies below {quoted(above)}, which is a link: not unpacked")
        if parts and self._tops.setdefault(parts[0], path != parts) != (path != parts):
            if not parts[0].startswith("."):
                both = f"{quoted(parts[0])} and {quoted(f'{self._subject}/{parts[0]}')}"
                raise ArchiveError(f"both {both} are in the archive: not unpacked")
            yield SkippedFile(name)
            return
        self._links.pop(name, None)  # the later of two members with one name counts, as with tar
        if header.isdir() or header.type == _GNU_FOLDER:
            yield Folder(name)
        elif header.isreg():
            yield File(name, content)
        elif header.issym():
            yield from self._keep_link(name, path, header.linkname)
        elif header.islnk():
            target = "/".join(self._below_subject(_parts(header.linkname, header.name)))
            if target in self._links:
                yield from self._keep_link(name, path, self._links[target][1])
            else:
                yield HardLink(name, target)
        else:
            raise ArchiveError(f"{quoted(header.name)} is neither a file nor a folder nor a link: not unpacked")

    def _keep_link(self, name: str, path: list[str], text: str) -> Iterator[Member]:
        self._resolve(path, text)  # checks links that a later member replaces, too; repeated when all links are known
        self._links[name] = path, text
        yield Folder(name.rpartition("/")[0])  # made before there are any links

    def _below_subject(self, path: list[str]) -> list[str]:
        return path[1:] if path[:1] == [self._subject] else path

    def _resolve(self, path: list[str], text: str) -> str:
        """Return the target of a symbolic link. Raises ArchiveError if it is outside the subject's folder."""
        link = f"{quoted('/'.join(path))} links to {quoted(text)}"
        outside = ArchiveError(f"{link}, which is outside the subject's folder: not unpacked")
        if not text or text.startswith("/") or "\0" in text:
            raise outside
        target = path[:-1]
        for part in text.split("/"):
            if part == "..":
                if not target:
                    raise outside
                if not self._links.keys().isdisjoint(accumulate(self._below_subject(target), posixpath.join)):
                    raise ArchiveError(f"{link}, which goes back out of a link: not unpacked")
                target.pop()
            elif part not in ("", "."):
                target.append(part)
        below = self._below_subject(path)
        if path != below and target[:1] != [self._subject]:
            raise outside
        return posixpath.relpath("/" + "/".join(self._below_subject(target)), "/" + "/".join(below[:-1]))


def _parts(name: str, shown: str) -> list[str]:
    """Return the parts of a path in the archive. Raises ArchiveError if it is unsafe."""
    parts = name.split("/")
    if ".." in parts or name.startswith("/"):
        raise ArchiveError(f"{quoted(shown)} points outside the subject's folder: not unpacked")
    if "\0" in name:
        raise ArchiveError(f"{quoted(shown)} has an embedded null byte: not unpacked")
    parts = [part for part in parts if part not in ("", ".")]
    if len(parts) > _DEEPEST:
        raise ArchiveError(f"{quoted(shown)} is a path of {len(parts)} steps: not unpacked")
    return parts
