"""What people hand in: folders, images, patterns and videos, as a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loaders.errors import InputError
from loaders.system.files import is_data

IMAGES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of file names, in any case, that are taken for images."""
VIDEOS: Final = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""Endings of file names, in any case, that are taken for videos."""


@dataclass(frozen=True)
class Input:
    """A file."""

    path: Path
    name: str
    """Its path below the folder that all inputs have in common."""

    @property
    def is_video(self) -> bool:
        """Whether its name says so."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(given: Sequence[str]) -> tuple[Path, list[Input]]:
    """Return the common folder of all files that are meant, and the files, each once, in order.

    Args:
        given: each a folder, of which everything named like an image or a video counts unless it is hidden, a file,
            or a pattern in which ``**`` stands for any folders.

    Raises:
        InputError: one of them means nothing.
    """
    paths = list(dict.fromkeys(path.absolute() for text in given for path in _expand(text)))
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder, [Input(path, path.relative_to(folder).as_posix()) for path in paths]


def _expand(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.exists() and not path.is_dir():
        yield path
        return
    if path.is_dir():
        found = [match for match in path.iterdir() if is_data(match.name)]
    elif glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(text, recursive=True)]  # noqa: PTH207  # Path's takes no absolute ones
        # what the pattern itself names is meant
        found = [match for match in matches if all(is_data(part) or part in path.parts for part in match.parts)]
    else:
        raise InputError(f"{text} does not exist: give a folder, an image, a video, or a pattern in quotes")
    named = sorted(match for match in found if match.suffix.lower() in (*IMAGES, *VIDEOS))
    if not named:
        where = "has no images" if path.is_dir() else "matches no images"
        raise InputError(f"{text} {where}: expected names that end in {', '.join((*IMAGES, *VIDEOS))}")
    yield from named
