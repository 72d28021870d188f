"""Multi-part archives: finding them, and reading one without joining its parts on the disk."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final

from zlib_ng import gzip_ng, zlib_ng

from loaders.errors import Failure, InputError
from tools.archives.tar_members import ArchiveError, File, Member, MemberReader
from tools.archives.tar_stream import TarStream
from tools.parallel import Progress

_PART: Final = re.compile(r"(?P<subject>[^.].*)\.tar\.gz(?:\.part(?P<letters>[a-z]{2}))?(?:\.unpacked)?")
GO_ON: Final = "run the same command again; finished subjects stay"
_UNPACKED: Final = ".unpacked"
"""Added to the first part's name before the others are deleted, so that they do not count as missing."""
_NOT_UNZIPPED: Any = zlib_ng.error  # its stub takes the class for an instance


@dataclass(frozen=True)
class Archive:
    """The parts of one subject."""

    subject: str
    parts: tuple[Path, ...]
    """In the order in which they are joined."""
    fault: str = ""
    """What is wrong with the names of its parts; empty if nothing is."""

    @property
    def bytes(self) -> int:
        """Size of all parts (bytes)."""
        return sum(part.stat().st_size for part in self.parts)

    @property
    def half_deleted(self) -> bool:
        """Whether a run began to delete the parts, so that all of the archive is unpacked."""
        return self.parts[0].name.endswith(_UNPACKED)

    def delete(self) -> None:
        """Delete the parts, or those that a killed run did not delete. Raises Failure if one cannot be deleted."""
        first = self.parts[0]
        try:
            if not self.half_deleted:
                first = first.rename(first.with_name(first.name + _UNPACKED))
            for part in (*self.parts[1:], first):
                part.unlink()
        except OSError as error:
            raise Failure(
                f"{self.subject} is unpacked, but {error.filename} cannot be deleted ({error.strerror}): make its "
                f"folder writable or leave out --delete-parts, then {GO_ON}"
            ) from None


def find_archives(folder: Path) -> list[Archive]:
    """Return the archives in a folder by subject. Raises InputError if it cannot be read."""
    parts: dict[str, dict[str, Path]] = defaultdict(dict)
    try:
        for path in sorted(folder.iterdir()):
            name = _PART.fullmatch(path.name)
            if name and path.is_file():
                parts[name["subject"]][name["letters"] or ""] = path
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}): give the folder that holds <subject>.tar.gz.partaa, ..."
        ) from None
    return [
        Archive(subject, tuple(paths.values()), _name_fault(subject, list(paths)))
        for subject, paths in sorted(parts.items())
    ]


def read_archive(archive: Archive, take: Callable[[Member], None], progress: Progress) -> None:
    """Pass the members to ``take``; when this returns, the archive was complete and its checksum right.

    Progress is counted in bytes of the archive. Raises ArchiveError if the archive is damaged or unsafe, and whatever
    ``take`` raises.
    """
    if archive.fault:
        raise ArchiveError(archive.fault)
    with _JoinedParts(archive.parts, progress) as joined:
        # not by tarfile, which would not compare the checksum at the end
        stream = TarStream(gzip_ng.GzipNGFile(fileobj=joined, mode="rb"))  # type: ignore[no-untyped-call]
        files = 0
        try:
            for member in MemberReader(archive.subject).read(stream):
                take(member)
                # an archive of hidden files alone has no subject
                files += isinstance(member, File) and not member.name.startswith(".")
            if files:
                return
            raise ArchiveError("the archive holds no files: download it again")
        except EOFError:
            fault = f"{joined.part} ends early: it is cut short, or a part after it is missing"
        except gzip.BadGzipFile as error:
            # a wrong checksum does not say which part is damaged
            earlier = "" if stream.tell() == 0 else ", or a part before it,"
            fault = f"{joined.part}{earlier} is damaged ({error})"
        except (_NOT_UNZIPPED, tarfile.TarError, ValueError, RecursionError) as error:
            fault = f"{joined.part}, or the end of the part before it, is damaged ({error})"
    raise ArchiveError(f"{fault}{short_parts(archive.parts)}: download it again")


class _JoinedParts(io.RawIOBase):
    """Several files that are read as if they were one."""

    def __init__(self, parts: Sequence[Path], progress: Progress) -> None:
        self._progress = progress
        self._later = list(parts[::-1])
        self.part = parts[0]
        self._stream: io.FileIO | io.BytesIO = io.BytesIO()  # empty

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            while not (count := self._stream.readinto(buffer)) and self._later:
                self._stream.close()
                self.part = self._later.pop()
                self._stream = self.part.open("rb", buffering=0)
        except OSError as error:
            raise ArchiveError(f"{self.part} cannot be read ({error.strerror}): see to its disk") from None
        self._progress.add(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _name_fault(subject: str, letters: Sequence[str]) -> str:
    """Say what is wrong with a subject's part names, ascending; empty if nothing is."""
    if letters[0] == "":
        return f"both {subject}.tar.gz and parts of it are there: remove one of them" if len(letters) > 1 else ""
    names = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
    absent = [name for name in names[: names.index(letters[-1])] if name not in letters]
    return f"{', '.join(f'{subject}.tar.gz.part{name}' for name in absent)} missing: download again" if absent else ""


def short_parts(parts: Sequence[Path]) -> str:
    """Name the parts that are shorter than others; only the last may be."""
    longest = max(part.stat().st_size for part in parts)
    short = [part.name for part in parts[:-1] if part.stat().st_size < longest]
    return f"; {', '.join(short)} shorter than another part, so probably cut" if short else ""
