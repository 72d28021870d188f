"""Which parts of the release are wanted, what the server says of them, and what is here already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from string import ascii_lowercase

from loaders.errors import Failure, InputError
from tools.archives.multipart import Archive
from tools.archives.unpack import UnpackJob
from tools.dataset.layout import LAST_PARTS, SET_FOLDERS
from tools.downloading.server import RefusedError, Server, UnreachableError
from tools.downloading.transfer import received
from tools.parallel import Meter


@dataclass(frozen=True)
class Part:
    """One part of a subject's archive."""

    path: Path
    """Where it gets to."""
    url: str
    size: int | None = None
    """Length (bytes); None if the server does not say."""
    fault: str = ""
    """Why the server does not give it; empty if it does."""

    @property
    def is_here(self) -> bool:
        """Whether all of it is here: a file of the server's size."""
        return self.path.is_file() and self.size in (None, self.path.stat().st_size)

    @property
    def missing(self) -> int:
        """How much is to be fetched, as far as that is known (bytes)."""
        return 0 if self.is_here or self.fault else max((self.size or 0) - received(self.path), 0)


@dataclass(frozen=True)
class Subject:
    """One subject: its parts, and its place in the dataset."""

    name: str
    parts: tuple[Part, ...]
    unpacked: UnpackJob | None
    """How it is unpacked; None if it is not to be."""

    @property
    def is_ready(self) -> bool:
        """Whether it is unpacked already, so that none of its parts is needed."""
        return self.unpacked is not None and self.unpacked.is_finished()

    @property
    def size(self) -> int:
        """Length of its archive, as far as that is known (bytes)."""
        return sum(part.size or 0 for part in self.parts)

    @property
    def missing(self) -> int:
        """How much of it is to be fetched (bytes)."""
        return 0 if self.is_ready else sum(part.missing for part in self.parts)

    @property
    def to_fetch(self) -> list[Part]:
        """Parts that the server gives and that are not here."""
        return [part for part in self.parts if not part.is_here and not part.fault]

    @property
    def lacking(self) -> list[Part]:
        """Parts that the server does not give."""
        return [part for part in self.parts if part.fault]


def wanted_subjects(
    parts: Path, dataset: Path | None, base_url: str, split: Collection[str], subjects: Collection[str], *, delete: bool
) -> list[Subject]:
    """Return the subjects of some splits, all or those that are named. Raises InputError if one is unknown.

    Args:
        parts: folder of all parts.
        dataset: folder of the dataset to unpack to; None to unpack nothing.
        base_url: address of the folder that has the parts.
        split: names of splits.
        subjects: names of subjects; empty takes all.
        delete: whether parts of an unpacked subject are deleted.
    """
    table = {
        name: (SET_FOLDERS[one], last) for one in SET_FOLDERS if one in split for name, last in LAST_PARTS[one].items()
    }
    if unknown := set(subjects) - table.keys():
        raise InputError(f"--subjects: {', '.join(sorted(unknown))} is not in the dataset's splits {', '.join(split)}")
    found = []
    for name, (folder, last) in table.items():
        if subjects and name not in subjects:
            continue
        letters = ascii_lowercase[: ascii_lowercase.index(last) + 1]
        files = [f"{name}.tar.gz.parta{letter}" for letter in letters]
        archive = Archive(name, tuple(parts / file for file in files))
        job = UnpackJob(archive, dataset / folder, delete) if dataset else None
        found.append(Subject(name, tuple(Part(parts / file, f"{base_url}/{file}") for file in files), job))
    if not found:
        raise InputError("--split is empty: name at least one")
    return found


def ask_for_sizes(subjects: Sequence[Subject], server: Server, connections: int) -> list[Subject]:
    """Return the subjects with what the server says of their parts; those that are ready are not asked for.

    Raises Failure if no server answers.
    """
    asked = [part for subject in subjects if not subject.is_ready for part in subject.parts]
    with Meter(len(asked), "part", "asking for sizes") as meter, ThreadPool(connections) as pool:
        answers = {}
        for part in pool.imap(_asking(server), asked):
            answers[part.path] = part
            meter.add(1)
    return [replace(one, parts=tuple(answers.get(part.path, part) for part in one.parts)) for one in subjects]


def _asking(server: Server) -> Callable[[Part], Part]:
    def ask(part: Part) -> Part:
        try:
            return replace(part, size=server.version(part.url).size)
        except UnreachableError as error:
            raise Failure(
                f"{part.url}: {error}: check the network, --base-url, and the proxies in the environment, then run the "
                "same command again"
            ) from None
        except RefusedError as error:
            return replace(part, fault=str(error))

    return ask
