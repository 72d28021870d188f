"""Multi-part archives: finding them, and unpacking one without a joined copy."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.command import Failure
from loaders.errors import InputError
from loaders.files import PARTIAL
from tools.parallel import advance

_PART: Final = re.compile(r"(?P<subject>.+)\.tar\.gz(?:\.part(?P<letters>[a-z]{2}))?$")
_BUFFER: Final = 1 << 20
"""How much is read or unpacked at once (bytes)."""


@dataclass(frozen=True)
class Archive:
    """The parts of one subject."""

    subject: str
    parts: tuple[Path, ...]
    """In the order in which they join."""
    fault: str = ""
    """Why it cannot be unpacked, as far as the names of its parts tell; empty if they are fine."""

    @property
    def bytes(self) -> int:
        """Size of all parts (bytes)."""
        return sum(part.stat().st_size for part in self.parts)


class ArchiveError(Exception):
    """An archive is damaged or not to be trusted; the message names the part."""


def find_archives(folder: Path) -> list[Archive]:
    """Return the archives in a folder by subject. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that holds <subject>.tar.gz.partaa, ...")
    parts: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        name = _PART.fullmatch(path.name)
        if name and path.is_file():
            parts[name["subject"]][name["letters"] or ""] = path
    if not parts:
        raise InputError(f"{folder} holds no archives: expected <subject>.tar.gz.partaa, ... or <subject>.tar.gz")
    return [
        Archive(subject, tuple(found.values()), _name_fault(subject, sorted(found)))
        for subject, found in sorted(parts.items())
    ]


def unpack(archive: Archive, output: Path) -> None:
    """Unpack an archive into ``output/<subject>``, which appears when all of it is there and its checksum is right.

    Raises ArchiveError if the archive is damaged or holds what it must not, Failure if the disk does not play along.
    """
    temporary = output / f".{archive.subject}{PARTIAL}"
    if archive.fault:
        raise ArchiveError(archive.fault)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with _JoinedParts(archive.parts) as joined:
            _unpack_stream(joined, temporary)
        # some archives hold the subject's folder, others what is in it
        inner = temporary / archive.subject
        whole = inner if [path.name for path in temporary.iterdir()] == [archive.subject] else temporary
        os.sync()  # parts may be deleted next: what came out of them must be on the disk
        whole.rename(output / archive.subject)
    except OSError as error:
        raise Failure(
            f"{archive.subject} cannot be unpacked to {output} ({error.strerror}): see to the disk, then run the same "
            "command again; finished subjects stay"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _JoinedParts(io.RawIOBase):
    """Several files read one after the other, as if they were one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = parts
        self._place = 0
        self._stream = parts[0].open("rb", buffering=0)

    @property
    def part(self) -> Path:
        """The part that is being read."""
        return self._parts[self._place]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not (count := self._stream.readinto(buffer)):
            if self._place + 1 == len(self._parts):
                return 0
            self._stream.close()
            self._place += 1
            self._stream = self.part.open("rb", buffering=0)
        advance(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _unpack_stream(joined: _JoinedParts, folder: Path) -> None:
    # gzip, not tarfile's own "r|gz", because that one does not compare the checksum at the end
    unzipped = io.BufferedReader(gzip.GzipFile(fileobj=io.BufferedReader(joined, _BUFFER)), _BUFFER)
    try:
        with tarfile.open(fileobj=unzipped, mode="r|", bufsize=_BUFFER) as tar:
            for member in tar:
                _check_member(member)
                tar.extract(member, folder, filter="data")
                tar.members.clear()  # type: ignore[attr-defined]  # else the list grows with the archive
        while unzipped.read(_BUFFER):
            pass
    except EOFError:
        raise ArchiveError(
            f"{joined.part} ends early: it is cut short, or a part after it is missing: download it again"
        ) from None
    except (zlib.error, gzip.BadGzipFile, tarfile.ReadError) as error:
        raise ArchiveError(
            f"{joined.part}, or the end of the part before it, is damaged ({error}): download it again"
        ) from None
    except tarfile.TarError as error:
        raise ArchiveError(f"{joined.part} holds what it must not: {error}") from None


def _check_member(member: tarfile.TarInfo) -> None:
    """Refuse everything but plain files and folders inside the archive's own folder."""
    if not (member.isfile() or member.isdir()):
        raise ArchiveError(f"{member.name} is a link or a device, which no frame is: not unpacked")
    if member.name.startswith("/") or ".." in Path(member.name).parts:
        raise ArchiveError(f"{member.name} points outside the subject's folder: not unpacked")


def _name_fault(subject: str, letters: Sequence[str]) -> str:
    """Say what is wrong with a subject's part names, ascending; empty if nothing is."""
    if letters[0] == "":
        return f"both {subject}.tar.gz and parts of it are there: remove one of them" if len(letters) > 1 else ""
    absent = [name for name in _part_names(letters[-1]) if name not in letters]
    return f"{', '.join(f'{subject}.tar.gz.part{name}' for name in absent)} missing: download again" if absent else ""


def _part_names(last: str) -> Iterator[str]:
    for first in "abcdefghijklmnopqrstuvwxyz":
        for second in "abcdefghijklmnopqrstuvwxyz":
            yield first + second
            if first + second == last:
                return
