"""Inputs: the files that folders, patterns and names stand for, read ahead in threads."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from engine.inference.images import InputImage, Preparation, Unreadable, read_image
from engine.inference.video import Video
from loaders.errors import InputError
from loaders.system.files import is_data

IMAGES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of file names, in any case, that are taken for images."""
VIDEOS: Final = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""Endings of file names, in any case, that are taken for videos."""

T = TypeVar("T")

Job = Callable[[], InputImage | Unreadable]


@dataclass(frozen=True)
class Input:
    """A file."""

    path: Path
    name: str
    """Its path below the folder that all inputs have in common."""

    @property
    def is_video(self) -> bool:
        """Whether its name ends like a video's."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(given: Sequence[str]) -> tuple[Path, list[Input]]:
    """Return the folder that all files have in common, and the files, each once, in order.

    Args:
        given: each a folder, of which everything named like an image or a video counts unless it is hidden, a file,
            or a pattern in which ``**`` stands for any folders.

    Raises:
        InputError: one of them does not exist, or has no images.
    """
    paths = list(dict.fromkeys(path.absolute() for text in given for path in _expand(text)))
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder, [Input(path, path.relative_to(folder).as_posix()) for path in paths]


def by_folder(inputs: Sequence[Input]) -> list[Input]:
    """Return the inputs folder by folder: of each its images in the order of their names, then its videos."""
    return sorted(inputs, key=lambda source: (source.path.parent, source.is_video, source.path.name))


def reading_jobs(inputs: Sequence[Input], videos: dict[str, Video], prepare: Preparation) -> Iterator[Job]:
    """Yield functions that read an image each; a video's frames are decoded here, one after another."""
    for source in inputs:
        if source.name not in videos:
            yield partial(_read, source, prepare)
            continue
        video = videos[source.name]
        for image, timing in video:
            yield partial(prepare, image, source.name, timing)
        if video.fault:
            yield partial(Unreadable, source.name, video.fault)


def in_order(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], T]], *, ahead: int) -> Iterator[T]:
    """Yield the jobs' results in order; at most ``ahead`` jobs are running or have results that wait."""
    remaining = iter(jobs)
    submitted: deque[Future[T]] = deque(pool.submit(job) for job in islice(remaining, ahead))
    while submitted:
        yield submitted.popleft().result()
        submitted.extend(pool.submit(job) for job in islice(remaining, 1))


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, each when the next one is there or none is left."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _expand(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.exists() and not path.is_dir():
        yield path
        return
    if path.is_dir():
        files = [match for match in path.iterdir() if is_data(match.name)]
    elif glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(text, recursive=True)]  # noqa: PTH207  # Path's takes no absolute ones
        # hidden files are skipped, unless the pattern itself names them
        files = [match for match in matches if all(is_data(part) or part in path.parts for part in match.parts)]
    else:
        raise InputError(f"{text} does not exist: give a folder, an image, a video, or a pattern in quotes")
    named = sorted(match for match in files if match.suffix.lower() in (*IMAGES, *VIDEOS))
    if not named:
        where = "has no images" if path.is_dir() else "matches no images"
        raise InputError(f"{text} {where}: expected names that end in {', '.join((*IMAGES, *VIDEOS))}")
    yield from named


def _read(source: Input, prepare: Preparation) -> InputImage | Unreadable:
    image = read_image(source.path)
    return Unreadable(source.name, image) if isinstance(image, str) else prepare(image, source.name)
