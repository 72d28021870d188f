"""Sort extracted subjects into the official splits: ``python -m tools.arrange --input RAW --output DATASET``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.cli.command import OK, Command, command
from loaders.errors import Failure, InputError, printable
from loaders.system.files import PARTIAL, is_data, temporary_name
from loaders.system.os_errors import in_words
from tools.dataset.layout import SET_FOLDERS, SUBJECTS
from tools.dataset.links import link, links_below, target_inside
from tools.parallel import Meter

Mode = Literal["move", "copy", "symlink", "hardlink"]


@dataclass(frozen=True, kw_only=True)
class ArrangeFlags(Command):
    """Flags of ``tools.arrange``."""

    input: Path
    """Folder with one folder per subject, as tools.extract writes it (path)."""
    output: Path
    """Folder of the dataset (path): TrainSet, ValSet and TestSet are made in it."""
    mode: Mode = "move"
    """How subjects get into the dataset: links take no space, hard links need the same file system.
    Links within a subject stay links; files that a link brings in from elsewhere are copied."""


@command("tools.arrange", "Sort extracted subjects into TrainSet, ValSet and TestSet by the official table.")
def main(flags: ArrangeFlags) -> int:
    """Put every known subject into its split and say which are unknown or missing."""
    if not flags.input.is_dir():
        raise InputError(f"{flags.input} is not a folder: give the one that tools.extract wrote")
    targets = {
        subject: flags.output / SET_FOLDERS[split] / subject for split, names in SUBJECTS.items() for subject in names
    }
    own = {flags.output.resolve(), *(flags.output.resolve() / name for name in SET_FOLDERS.values())}
    given = {
        path.name: path
        for path in sorted(flags.input.iterdir())
        if is_data(path.name) and path.is_dir() and path.resolve() not in own
    }
    unknown = sorted(given.keys() - targets.keys())
    ready = [subject for subject, target in targets.items() if target.exists()]
    wanted = [subject for subject in targets if subject in given and subject not in ready]
    if not wanted and not ready:
        raise InputError(f"{flags.input} holds no folder of a known subject, such as {next(iter(targets))}")
    dangling: list[Path] = []
    with Meter(len(wanted), "subject", "arranging") as meter:
        for subject in wanted:
            dangling += _place(given[subject], targets[subject], flags.mode)
            meter.add(1)
    missing = [subject for subject in targets if subject not in wanted and subject not in ready]
    sys.stdout.write(f"{flags.output}: {len(wanted)} subjects placed ({flags.mode}), {len(ready)} were there already\n")
    for words, names in (("unknown, left where they are", unknown), ("missing", missing)):
        if names:
            sys.stdout.write(f"{words}: {len(names)}: {printable(', '.join(names))}\n")
    if dangling:
        sys.stdout.write(f"links that lead nowhere: {len(dangling)}, the first is {printable(str(dangling[0]))}\n")
    return OK


def _place(source: Path, target: Path, mode: Mode) -> list[Path]:
    """Put a whole subject at ``target``; return its links that lead nowhere."""
    temporary = target.with_name(target.name + PARTIAL)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if temporary.exists():
            shutil.rmtree(temporary)
        if mode == "symlink" or (mode == "move" and source.is_symlink()):
            target.symlink_to(source.resolve(), target_is_directory=True)
            if mode == "move":
                source.unlink()
            return []
        if mode == "move" and source.stat().st_dev == target.parent.stat().st_dev:
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
    except OSError as error:
        raise Failure(
            f"{source} cannot be placed at {target}: {in_words(error)}; subjects placed already stay"
        ) from None
    return dangling


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
        elif any(folder.is_relative_to(end) for folder in (path.parent.resolve(), *around)):
            # it leads to a folder that contains it: copying would never end
            if not link(copy, str(end)):
                dangling.append(path)
        else:
            dangling += _copy(end, copy, shutil.copy2, (*around, path.parent.resolve()))
    return dangling


if __name__ == "__main__":
    sys.exit(main())
