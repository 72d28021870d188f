"""What every command line shares: flags from a dataclass, one clear line for an error, exit statuses."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import tyro

from engine.progress import note
from engine.streams import forgiving_streams, lost_output
from loaders.errors import InputError
from loaders.os_errors import in_words, is_of_a_path

OK, CHECK_FAILED, BAD_INPUT = 0, 1, 2
"""Exit statuses: success; what was asked to be checked does not hold; bad arguments or configuration."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""


_ROOT: Final = Path(__file__).resolve().parent.parent


class Failure(Exception):
    """The work was asked for properly and cannot go on; the message is one line, the exit status 1."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags of every command."""

    debug: bool = False
    """Show the traceback of an error."""


CommandT = TypeVar("CommandT", bound=Command)
StatusT = TypeVar("StatusT")


def parse(flags: type[CommandT], arguments: Sequence[str], *, program: str, description: str) -> CommandT:
    """Turn arguments into ``flags``; ``--help`` prints and exits 0. Raises InputError for anything unusable."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(flags, prog=program, description=description, args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_one_line(said.getvalue())) from None


def run(
    flags: type[CommandT],
    action: Callable[[CommandT], int],
    *,
    program: str,
    description: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the command line, run ``action`` and return the exit status; errors become one line."""

    def parse_flags(given: list[str]) -> CommandT:
        return parse(flags, given, program=program, description=description)

    return run_with(parse_flags, action, program=program, arguments=arguments)


def run_with(
    parse_arguments: Callable[[list[str]], CommandT],
    action: Callable[[CommandT], int],
    *,
    program: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """As `run`, with a parser of one's own."""
    end_unguarded_worker()
    given = list(sys.argv[1:] if arguments is None else arguments)
    with forgiving_streams(), _threads_without_traceback():
        try:
            status = action(parse_arguments(given))
        except SystemExit as stop:  # --help
            raise SystemExit(_printed(stop.code, program)) from None
        except (InputError, Failure, OSError) as error:
            if "--debug" in given:
                traceback.print_exc()
            return _tell(error, program)
        except KeyboardInterrupt:
            note(f"{program}: interrupted")
            return INTERRUPTED
        return _printed(status, program)


def _tell(error: InputError | Failure | OSError, program: str) -> int:
    """Say in one line what went wrong, and return the exit status."""
    words, status = str(error), BAD_INPUT if isinstance(error, InputError) else CHECK_FAILED
    if isinstance(error, OSError):
        words, status = in_words(error), BAD_INPUT if is_of_a_path(error) else CHECK_FAILED
    note(f"{program}: error: {words}")
    return status


def _printed(status: StatusT, program: str) -> StatusT | int:
    """Return the status of a command that came to its end, if all that it printed was taken; else that of a failure."""
    fault = lost_output()
    if fault is None:
        return status
    if isinstance(fault, BrokenPipeError):  # whoever read it has seen enough
        return 128 + signal.SIGPIPE
    note(
        f"{program}: error: standard output cannot be written ({fault.strerror}): what it should have shown is lost, "
        "all else is done; send it elsewhere"
    )
    return CHECK_FAILED


@contextlib.contextmanager
def _threads_without_traceback() -> Iterator[None]:
    """Make an error of the system one line also in threads of libraries, such as TensorBoard's that writes events."""

    def tell(ended: threading.ExceptHookArgs) -> None:
        if isinstance(ended.exc_value, OSError):
            note(f"warning: {in_words(ended.exc_value)}")
        else:
            threading.__excepthook__(ended)

    given, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = given


def _one_line_for_an_early_interrupt() -> None:
    """Make Ctrl-C one line also while a command of this project still imports what it needs, before `run_with`."""
    main = sys.modules["__main__"]
    path = Path(getattr(main, "__file__", None) or "")
    given = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            note(f"{main.__spec__.name if main.__spec__ else path.stem}: interrupted")
        else:
            given(kind, error, trace)

    # the program of somebody who imports this one keeps its own ways
    if path.resolve().parent in [_ROOT / folder for folder in ("engine", "tools", "benchmarks")]:
        sys.excepthook = tell


_one_line_for_an_early_interrupt()


def end_unguarded_worker() -> None:
    """End this process if it is a worker that has come here by importing a script that lacks a main guard.

    A worker imports the script that started it. What the script calls must not run again there.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        os._exit(BAD_INPUT)


def _one_line(box: str) -> str:
    """Flatten the parser's framed message into a line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │╭╮╰╯─\t") for line in text.splitlines()]
    body = [line for line in lines[1:] if line and not line.startswith("For full helptext")]
    return "; ".join(body).replace(":; ", ": ") + "; see --help"
