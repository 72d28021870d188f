"""What commands write to standard error: progress bars, log records and errors beside them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from tqdm import tqdm

from loaders.errors import printable

_LOG_SECONDS: Final = 30.0
"""Time between lines in a log, and before the first (seconds)."""
_LOGGERS: Final = ("__main__", "benchmarks", "engine", "loaders", "models", "tools")
"""Whose records of level INFO are shown; of other packages only warnings are."""


def progress_bar(*, total: int, unit: str, **options: Any) -> tqdm[Any]:
    """Return a bar on the error stream; a log, which nobody watches, gets a line now and then, and none of short work.

    ``options`` are tqdm's.
    """
    options |= {"total": total, "unit": unit, "file": sys.stderr}
    if sys.stderr.isatty():
        return tqdm(mininterval=0.2, dynamic_ncols=True, **options)
    return _LogLines(mininterval=_LOG_SECONDS, delay=_LOG_SECONDS, leave=False, **options)


def write_line(text: str) -> None:
    """Write a line of its own to the error stream, above the bars of this process; do nothing if it is closed."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty() and int(os.environ.get("RANK", "0")):
            sys.stderr.write("\n")  # the cursor may be behind the main process's bar
        tqdm.write(printable(text), file=sys.stderr)  # a file's name may hold anything


@contextlib.contextmanager
def shown_log() -> Iterator[None]:
    """Show log records with their time, and the rank if there are several processes, above the progress bars."""
    root = logging.getLogger()
    if any(isinstance(handler, _Handler) for handler in root.handlers):  # a command that another one calls
        yield
        return
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    handler = _Handler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write ``12:03:11 rank 0: warning: ...``."""
        rank = f" rank {os.environ['RANK']}:" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        write_line(f"{time.strftime('%H:%M:%S', time.localtime(record.created))}{rank} {level}{record.getMessage()}")


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
