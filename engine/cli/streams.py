"""Standard streams that are closed, full, or whose reader has gone: work goes on, and what was lost is known."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Outlet(io.FileIO):
    """Drops what cannot be written and keeps the first reason."""

    fault: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write to the file; of what it does not take, say that it was written."""
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking
                select.select([], [self], [])
        except OSError as error:
            self.fault = self.fault or error
            return memoryview(data).nbytes
        return written


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Let writing to standard output and standard error never fail; `lost_output` tells what did not get there.

    Streams that are no files, such as those of a notebook, stay as they are.
    """
    if sys.stdin is None:
        _open_nothing(os.O_RDONLY)
    with _forgiving("stdout"), _forgiving("stderr"):
        yield


def lost_output() -> OSError | None:
    """Return why standard output did not take all that was written so far; None if it did."""
    sys.stdout.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return outlet.fault if isinstance(outlet, Outlet) else None


@contextlib.contextmanager
def _forgiving(name: Literal["stdout", "stderr"]) -> Iterator[None]:
    given: TextIO | None = getattr(sys, name)
    if given is None:
        # output refuses what is written, so that it counts as lost; notes may get lost
        number = _open_nothing(os.O_RDONLY if name == "stdout" else os.O_WRONLY)
    else:
        try:
            number = given.fileno()
            given.flush()
        except (OSError, ValueError):  # no file, or what was written before is lost already
            yield
            return
    stream = io.TextIOWrapper(
        io.BufferedWriter(Outlet(number, "w", closefd=False)),
        encoding=given.encoding if given else "utf-8",
        errors="backslashreplace",  # file names need not be text
        line_buffering=name == "stderr" or os.isatty(number),
    )
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, given)
        if given:
            try:
                given.flush()
            except OSError:  # the interpreter would try again at its end, and report it
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, given.fileno())
                os.close(nothing)


def _open_nothing(flags: int) -> int:
    """Open the null device in the place of a stream that is closed, which the next file would get otherwise."""
    descriptor = os.open(os.devnull, flags)
    os.set_inheritable(descriptor, descriptor <= 2)  # child processes have standard streams, too
    return descriptor
