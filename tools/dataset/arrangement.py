"""Which subjects go into which split of the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loaders.errors import InputError
from loaders.system.files import is_data
from tools.dataset.layout import SET_FOLDERS, SUBJECTS


@dataclass(frozen=True)
class Arrangement:
    """The subjects of a folder, and where they belong."""

    targets: dict[str, Path]
    """Folder in the dataset of every subject of the official table."""
    given: dict[str, Path]
    """Folders to arrange, by subject, whether or not the table knows it."""
    ready: tuple[str, ...]
    """Subjects that are arranged already."""

    @property
    def wanted(self) -> list[str]:
        """Subjects to place."""
        return [subject for subject in self.targets if subject in self.given and subject not in self.ready]

    @property
    def unknown(self) -> list[str]:
        """Folders that the table does not know."""
        return sorted(self.given.keys() - self.targets.keys())

    @property
    def missing(self) -> list[str]:
        """Subjects of the table that are nowhere."""
        return [subject for subject in self.targets if subject not in self.given and subject not in self.ready]


def find_subjects(folder: Path, dataset: Path) -> Arrangement:
    """Return what is to be arranged. Raises InputError if ``folder`` is none, or if no subject is known."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that tools.extract wrote")
    targets = {
        subject: dataset / SET_FOLDERS[split] / subject for split, names in SUBJECTS.items() for subject in names
    }
    own = {dataset.resolve(), *(dataset.resolve() / name for name in SET_FOLDERS.values())}
    given = {
        path.name: path
        for path in sorted(folder.iterdir())
        if is_data(path.name) and path.is_dir() and path.resolve() not in own
    }
    arrangement = Arrangement(targets, given, tuple(subject for subject in targets if targets[subject].exists()))
    if not arrangement.wanted and not arrangement.ready:
        raise InputError(f"{folder} holds no folder of a known subject, such as {next(iter(targets))}")
    return arrangement
