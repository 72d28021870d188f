"""The files of one frame of the released dataset."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loaders.errors import Failure, printable
from loaders.format.sample import NO_ROTATIONS
from tools.dataset.layout import ReleaseRecording, differ
from tools.sources.defects import key_defect
from tools.sources.source import FrameError

PAIRED: Final = ("rgba", "json", "worldp", "depth", "objectId")
"""Modalities of which every frame has a file; few frames have ``rot``."""


class MissingFileError(FrameError):
    """A frame has no file of a modality."""


def name_defect(recording: ReleaseRecording, frame: int) -> str:
    """Return why no sample can have the names of a recording in its key; empty if a sample can."""
    if recording.path.parts[-3:-1] != (recording.subject, recording.name):
        return "the name of its folder cannot be printed"
    return key_defect(recording, frame)


def double_defect(modality: str, paths: Sequence[Path]) -> str:
    """Return why a frame's file of a modality is ambiguous; empty if it is not."""
    if len(paths) < 2 or not differ(paths):
        return ""
    return f"{len(paths)} {modality} files that differ: {', '.join(printable(path.name) for path in paths)}"


def read_file(recording: ReleaseRecording, modality: str, frame: int) -> bytes:
    """Return the bytes of a frame's file. Raises FrameError if there is none, Failure if it cannot be read."""
    path = recording.file(modality, frame)
    try:
        if not path.exists():
            # a file belongs to a frame by its number; the rest of its name may be unusual
            path = _unusual(recording, modality).get(frame, path)
        return path.read_bytes()
    except OSError as error:
        if leads_nowhere(path):
            raise FrameError(f"{modality} is a link to nothing") from None
        if isinstance(error, FileNotFoundError):
            raise MissingFileError(f"no {modality} file") from None
        raise Failure(f"{path} cannot be read ({error.strerror}): repair it, then run the command again") from None


def read_rotations_file(recording: ReleaseRecording, frame: int) -> bytes:
    """Return the bytes of a frame's rot file, or what stands for it where there is none.

    Raises FrameError if it is empty or a link to nothing, Failure if it cannot be read.
    """
    try:
        content = read_file(recording, "rot", frame)
    except MissingFileError:
        return NO_ROTATIONS
    if not content:
        raise FrameError("rot file is empty")
    return content


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


@functools.lru_cache(maxsize=1024)
def _unusual(recording: ReleaseRecording, modality: str) -> dict[int, Path]:
    """Return the files whose names are not the usual ones; samples of all recordings are read in turn."""
    return {frame: path for frame, path in recording.files(modality).items() if path != recording.file(modality, frame)}
