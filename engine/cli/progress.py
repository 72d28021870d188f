"""The progress bars of all commands, and what is said beside them."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

from tqdm import tqdm

from loaders.errors import printable

_LOG_SECONDS: Final = 30.0
"""Time between lines in a log, and before the first (seconds)."""


def progress_bar(*, total: int, unit: str, **options: Any) -> tqdm[Any]:
    """Return a bar on the error stream; a log, which nobody watches, gets a line now and then, and none of short work.

    ``options`` are tqdm's.
    """
    options |= {"total": total, "unit": unit, "file": sys.stderr}
    if sys.stderr.isatty():
        return tqdm(mininterval=0.2, dynamic_ncols=True, **options)
    return _LogLines(mininterval=_LOG_SECONDS, delay=_LOG_SECONDS, leave=False, **options)


def note(text: str) -> None:
    """Write a line of its own to the error stream, above the bars of this process."""
    if sys.stderr is None:
        return
    if sys.stderr.isatty() and int(os.environ.get("RANK", "0")):
        sys.stderr.write("\n")  # the cursor may be behind the main process's bar
    tqdm.write(printable(text), file=sys.stderr)  # a file's name may hold anything


class _LogLines(tqdm):  # type: ignore[type-arg]  # not generic when the program runs
    """A bar for a log: whole lines, so that nothing ever stands behind one."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if it is time for one; notes, new descriptions and the end ask for more."""
        now = time.time()
        if msg is None and now - self.last_print_t >= self.mininterval:
            self.fp.write(f"{self}\n")
            self.last_print_n, self.last_print_t = self.n, now

    def clear(self, nolock: bool = False) -> None:
        """Leave what is written; a log keeps it."""
