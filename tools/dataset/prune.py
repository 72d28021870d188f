"""Moving the files of faulty frames out of the dataset."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loaders.errors import Failure, InputError
from loaders.system.os_errors import format_bytes
from tools.dataset.frames import PAIRED
from tools.dataset.layout import ReleaseRecording
from tools.dataset.links import target_inside
from tools.sources.inspection import Inspection


def prune(dataset: Path, aside: Path, inspections: Sequence[Inspection]) -> tuple[int, Counter[Path]]:
    """Move every file of the faulty frames to the same relative path below ``aside``.

    Files that a recording has through a link stay: they belong to another recording or are outside the dataset. Files
    that a frame without defects has through a link stay too.

    Returns:
        The number of files moved, and the number of files that stayed, by folder.

    Raises:
        InputError: something is in the way; nothing was moved.
        Failure: a file cannot be moved.
    """
    moves, kept = _plan(dataset, aside, inspections)
    _check(moves)
    for number, (path, target) in enumerate(moves.items()):
        try:
            shutil.move(path, target)
        except OSError as error:
            if os.path.lexists(path):
                with contextlib.suppress(OSError):
                    target.unlink()  # an incomplete copy
            raise Failure(
                f"{path} cannot be moved to {target} ({error.strerror}), {number} files were: see to it, then run the "
                "same command again"
            ) from None
    return len(moves), kept


def _plan(dataset: Path, aside: Path, inspections: Sequence[Inspection]) -> tuple[dict[Path, Path], Counter[Path]]:
    """Return the files to move with their new paths, and how many files stay in which folder."""
    moves: dict[Path, tuple[Path, Path]] = {}
    foreign: list[tuple[Path, Path]] = []
    needed: set[Path] = set()
    for inspection in inspections:
        recording, bad = inspection.recording, set(inspection.bad_frames)
        assert isinstance(recording, ReleaseRecording)
        for modality in (*PAIRED, "rot"):
            folder = recording.path / modality
            linked = target_inside(folder, recording.path) is None
            # two recordings, or two modalities, may share a folder: each of its files is moved once
            real = folder.resolve()
            for frame, path in recording.numbered(modality):
                if frame not in bad:
                    if linked or path.is_symlink():
                        needed.add(Path(os.path.realpath(path)))
                elif linked:
                    foreign.append((folder, real / path.name))
                else:
                    moves.setdefault(real / path.name, (path, aside / path.relative_to(dataset)))
    kept = Counter(folder for folder, file in foreign if file not in moves)
    kept.update(path.parent for file, (path, _) in moves.items() if file in needed)
    return dict(sorted(move for file, move in moves.items() if file not in needed)), kept


def _check(moves: dict[Path, Path]) -> None:
    """Make the target folders and check that every file can be moved there."""
    needed: Counter[Path] = Counter()
    for path, target in moves.items():
        try:
            if os.path.lexists(target):
                raise InputError(f"{target} exists already: give --prune another folder")
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{target} cannot be made ({error.strerror}): give --prune another folder") from None
        for folder in (path.parent, target.parent):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"{folder} is not writable, so nothing was moved: see to its permissions")
        size = path.lstat()
        if size.st_dev != target.parent.stat().st_dev:
            needed[target.parent] += size.st_size
    if needed:
        folder, total = next(iter(needed)), sum(needed.values())
        if total > (free := shutil.disk_usage(folder).free):
            raise InputError(
                f"the files need {format_bytes(total)}, the disk of {folder} has {format_bytes(free)} free, so nothing "
                "was moved: give --prune another folder"
            )
