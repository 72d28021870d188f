"""Putting one subject into the dataset: moved, copied or linked, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from engine.cli.forecast import Destination
from loaders.errors import Failure
from loaders.system.files import PARTIAL, temporary_name
from loaders.system.os_errors import in_words
from tools.dataset.links import link, links_below, target_inside

Mode = Literal["move", "copy", "symlink", "hardlink"]

_SOME: Final = 100
"""How many of a subject's files to copy are named (files)."""


@dataclass
class Content:
    """What becomes of a subject's files and links when it is placed."""

    copied: int = 0
    """Files that are written anew (files)."""
    bytes: int = 0
    """Their size (bytes)."""
    linked: int = 0
    """Files that get a second name (files)."""
    first: list[Path] = field(default_factory=list)
    """Some of the files to copy."""
    dangling: list[Path] = field(default_factory=list)
    """Links that lead nowhere."""


def check_place(source: Path, target: Path, mode: Mode) -> None:
    """Raise Failure for what can be seen to keep a subject from its place before anything is written."""
    with _failing(source, target):
        nearest = Destination(target.parent).nearest()
        if target.is_symlink():  # one that leads nowhere, else the subject would be there already
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        if mode == "hardlink" and source.stat().st_dev != nearest.stat().st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(target))


def content_to_place(source: Path, target: Path, mode: Mode) -> Content:
    """Return what `place` would do with a subject's files, on file systems that have links."""
    content = Content()
    if _becomes_link(source, mode):
        return content
    with _failing(source, target):
        if _is_renamed(source, target, mode):
            content.dangling = [path for path in links_below(source) if not path.exists()]
            return content
        for path, origin in _files(source):
            if origin == "nowhere":
                content.dangling.append(path)
            elif origin == "here" and mode == "hardlink":
                content.linked += 1
            else:
                content.copied += 1
                content.bytes += path.stat().st_size
                if len(content.first) < _SOME:
                    content.first.append(path)
    return content


def place(source: Path, target: Path, mode: Mode) -> list[Path]:
    """Put a whole subject at ``target``; return its links that lead nowhere. Raises Failure if that cannot be."""
    temporary = target.with_name(target.name + PARTIAL)
    with _failing(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if temporary.exists():
            shutil.rmtree(temporary)
        if _becomes_link(source, mode):
            target.symlink_to(source.resolve(), target_is_directory=True)
            if mode == "move":
                source.unlink()
            return []
        if _is_renamed(source, target, mode):
            links = list(links_below(source))
            dangling = [path for path in links if not path.exists()]
            for path in links:
                _prepare_to_move(path, source)
            source.rename(target)
            return dangling
        dangling = _copy(source, temporary, os.link if mode == "hardlink" else shutil.copy2)
        temporary.rename(target)
        if mode == "move":
            shutil.rmtree(source)
    return dangling


def _becomes_link(source: Path, mode: Mode) -> bool:
    return mode == "symlink" or (mode == "move" and source.is_symlink())


def _is_renamed(source: Path, target: Path, mode: Mode) -> bool:
    return mode == "move" and source.stat().st_dev == Destination(target.parent).nearest().stat().st_dev


@contextlib.contextmanager
def _failing(source: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(
            f"{source} cannot be placed at {target}: {in_words(error)}; subjects placed already stay"
        ) from None


def _prepare_to_move(path: Path, subject: Path) -> None:
    """Rewrite a link of a subject so that it leads to the same file after the subject has moved."""
    to = target_inside(path, subject) or os.path.realpath(path)
    if to != str(path.readlink()):
        temporary = temporary_name(path)
        temporary.symlink_to(to)
        temporary.replace(path)


def _copy(
    source: Path, target: Path, copy_file: Callable[[str, str], object], around: tuple[Path, ...] = ()
) -> list[Path]:
    """Copy a folder, each file with ``copy_file``; return its links that lead nowhere.

    Links that lead below ``source`` become relative links below ``target``; the content of others is copied.
    ``around`` are the folders whose links led to this one.
    """
    links: list[Path] = []

    def skip_links(folder: str, names: list[str]) -> list[str]:
        skipped = [name for name in names if Path(folder, name).is_symlink()]
        links.extend(Path(folder, name) for name in skipped)
        return skipped

    shutil.copytree(source, target, copy_function=copy_file, ignore=skip_links)
    dangling = []
    for path in links:
        copy, end = target / path.relative_to(source), Path(os.path.realpath(path))
        inside = target_inside(path, source)
        if not path.exists():
            dangling.append(path)
        if inside and link(copy, inside):
            continue
        if not end.is_dir():
            if end.exists():
                shutil.copy2(end, copy)
            else:
                link(copy, str(end))
        elif _contains(end, path, around):
            if not link(copy, str(end)):
                dangling.append(path)
        else:
            dangling += _copy(end, copy, shutil.copy2, (*around, path.parent.resolve()))
    return dangling


def _files(
    folder: Path, around: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, Literal["here", "elsewhere", "nowhere"]]]:
    """Yield a folder's files, those that its links bring in from elsewhere, and the links that lead nowhere.

    It decides as `_copy` does.
    """
    for top, _, names in os.walk(folder):
        for name in names:
            if not (path := Path(top, name)).is_symlink():
                yield path, "here"
    for path in links_below(folder):
        end = Path(os.path.realpath(path))
        if not path.exists():
            yield path, "nowhere"
        elif target_inside(path, folder):
            continue
        elif not end.is_dir():
            yield end, "elsewhere"
        elif not _contains(end, path, around):
            for brought, origin in _files(end, (*around, path.parent.resolve())):
                yield brought, "nowhere" if origin == "nowhere" else "elsewhere"


def _contains(end: Path, path: Path, around: tuple[Path, ...]) -> bool:
    """Whether a link leads to a folder that contains it: copying would never end."""
    return any(folder.is_relative_to(end) for folder in (path.parent.resolve(), *around))
