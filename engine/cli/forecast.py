"""Dry runs: what a command would do, how long it takes and how much space, said without writing anything."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loaders.errors import printable
from loaders.system.locks import locked
from loaders.system.os_errors import format_bytes

_COLUMNS: Final = 100
"""Width of what is shown (characters)."""


@dataclass(frozen=True)
class Destination:
    """A folder that would be made, or written to."""

    path: Path
    flag: str = "--output"
    """What gave it."""

    def check(self, file: str = "") -> None:
        """Raise what making the folder and locking it would raise.

        Args:
            file: name of the file in it that is locked; empty locks the folder itself.

        Raises:
            InputError: another run is at work.
            OSError: a file is in the way.
        """
        self.nearest()
        if (self.path / file).exists():
            with locked(self.path, flag=self.flag, file=file):
                pass

    def nearest(self) -> Path:
        """Return the folder that is there already: this one, or the nearest above it. Raises as `check` does."""
        for folder in (self.path, *self.path.parents):
            if folder.is_dir():
                return folder
            if (folder == self.path and folder.exists()) or folder.is_symlink():
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
            if folder.exists():
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        return Path()

    @property
    def free(self) -> int:
        """Free space of its file system (bytes)."""
        return shutil.disk_usage(self.nearest()).free

    def warnings(self, needed: float) -> Iterator[str]:
        """Yield what may stop a run that writes ``needed`` bytes; only writing would tell for sure."""
        nearest = self.nearest()
        if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
            yield f"{nearest} does not let you write: have it permitted, or give another {self.flag}"
        if needed > self.free:
            yield (
                f"{format_bytes(needed)} are needed and {format_bytes(self.free)} are free in {nearest}: make room, or "
                f"give another {self.flag}"
            )


def show(rows: Iterable[tuple[str, str]], warnings: Iterable[str] = ()) -> None:
    """Write names and what is said of each in two columns to standard output, then the warnings.

    Two empty texts give an empty line.
    """
    rows = [("dry run", "nothing is written"), *rows, *(("warning", warning) for warning in warnings)]
    width = max(len(printable(name)) for name, _ in rows) + 2
    wrapper = textwrap.TextWrapper(
        _COLUMNS, subsequent_indent=" " * width, break_long_words=False, break_on_hyphens=False
    )
    for name, value in rows:
        text = wrapper.fill(f"{printable(name):{width}}{printable(value)}") if name else ""
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def counted(number: int, unit: str) -> str:
    """Return "1 part" or "2 parts"."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
