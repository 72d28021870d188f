"""Sort extracted subjects into the official splits: ``python -m tools.arrange --input RAW --output DATASET``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.command import OK, Command, Failure, run
from loaders.errors import InputError
from loaders.files import PARTIAL
from loaders.os_errors import in_words
from tools.dataset import SET_FOLDERS, SUBJECTS
from tools.parallel import Meter

Mode = Literal["move", "copy", "symlink", "hardlink"]


@dataclass(frozen=True, kw_only=True)
class ArrangeFlags(Command):
    """Flags of ``tools.arrange``."""

    input: Path
    """Folder with one folder per subject, as tools.extract leaves it."""
    output: Path
    """Folder of the dataset: TrainSet, ValSet and TestSet appear below it."""
    mode: Mode = "move"
    """How a subject gets there: links take no space, hard links need the same file system."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(
        ArrangeFlags,
        arrange,
        program="tools.arrange",
        description="Sort extracted subjects into TrainSet, ValSet and TestSet by the official table.",
        arguments=arguments,
    )


def arrange(flags: ArrangeFlags) -> int:
    """Place every known subject and say which are unknown or missing."""
    if not flags.input.is_dir():
        raise InputError(f"{flags.input} is not a folder: give the one that tools.extract wrote")
    targets = {
        subject: flags.output / SET_FOLDERS[split] / subject for split, names in SUBJECTS.items() for subject in names
    }
    own = {flags.output.resolve(), *(flags.output.resolve() / name for name in SET_FOLDERS.values())}
    given = {
        path.name: path
        for path in sorted(flags.input.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.resolve() not in own
    }
    unknown = sorted(given.keys() - targets.keys())
    ready = [subject for subject, target in targets.items() if target.exists()]
    wanted = [subject for subject in targets if subject in given and subject not in ready]
    if not wanted and not ready:
        raise InputError(f"{flags.input} holds no folder of a known subject, such as {next(iter(targets))}")
    with Meter(len(wanted), "subject", "arranging") as meter:
        for subject in wanted:
            _place(given[subject], targets[subject], flags.mode)
            meter.add(1)
    missing = [subject for subject in targets if subject not in wanted and subject not in ready]
    sys.stdout.write(f"{flags.output}: {len(wanted)} subjects placed ({flags.mode}), {len(ready)} were there already\n")
    for words, names in (("unknown, left where they are", unknown), ("missing", missing)):
        if names:
            sys.stdout.write(f"{words}: {len(names)}: {', '.join(names)}\n")
    return OK


def _place(source: Path, target: Path, mode: Mode) -> None:
    """Make a subject appear at its place, whole."""
    temporary = target.with_name(target.name + PARTIAL)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if temporary.exists():
            shutil.rmtree(temporary)
        if mode == "symlink":
            target.symlink_to(source.resolve(), target_is_directory=True)
            return
        if mode == "move" and source.stat().st_dev == target.parent.stat().st_dev:
            source.rename(target)
            return
        shutil.copytree(source, temporary, copy_function=os.link if mode == "hardlink" else shutil.copy2)
        temporary.rename(target)
        if mode == "move":
            shutil.rmtree(source)
    except OSError as error:
        raise Failure(
            f"{source} cannot be placed at {target}: {in_words(error)}; subjects placed already stay"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
