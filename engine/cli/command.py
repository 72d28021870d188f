"""What every command line shares: flags from a dataclass, one clear line for an error, exit statuses."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_type_hints

import tyro
from tyro._errors import ParseErrorEvent, on_parse_error

from engine.cli.flags import VALUES, keys_of
from engine.cli.parse_errors import complaint
from engine.cli.progress import shown_log, write_line
from engine.cli.streams import forgiving_streams, lost_output
from loaders.errors import Failure, InputError, printable
from loaders.system.os_errors import in_words, is_of_a_path

OK, CHECK_FAILED, BAD_INPUT = 0, 1, 2
"""Exit statuses: success; what was asked to be checked does not hold; bad arguments or configuration."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags of every command."""

    debug: bool = False
    """Show the traceback of an error."""


CommandT = TypeVar("CommandT", bound=Command)
StatusT = TypeVar("StatusT")


def parse(
    flags: type[CommandT],
    arguments: Sequence[str],
    *,
    program: str,
    description: str,
    default: CommandT | None = None,
    example: str = "",
) -> CommandT:
    """Turn arguments into ``flags``; ``--help`` prints and exits 0. Raises InputError for anything unusable.

    Args:
        flags: the dataclass that declares them.
        arguments: the command line.
        program: name for messages, such as "tools.shard".
        description: first line of ``--help``.
        default: values of flags that are not given; None takes those that ``flags`` declares.
        example: arguments to show to somebody who gave none.
    """
    keys = [key for key, _ in keys_of(flags)]

    def refuse(event: ParseErrorEvent) -> None:
        if reason := complaint(event, arguments, keys, example):
            raise InputError(printable(reason))

    with on_parse_error(refuse):
        return tyro.cli(
            flags,
            prog=program,
            description=description,
            args=list(arguments),
            default=tyro.MISSING_NONPROP if default is None else default,
            registry=VALUES,
        )


def command(
    program: str, description: str, *, parser: Callable[..., CommandT] | None = None
) -> Callable[[Callable[[CommandT], int]], Callable[..., int]]:
    """Make a function of its flags the ``main(arguments=None)`` of a command, which returns the exit status.

    It parses the arguments, those of the process by default. Errors become one line.

    Args:
        program: name for messages, such as "tools.shard".
        description: first line of ``--help``.
        parser: takes arguments, program and description, and returns flags; None parses the arguments as the dataclass
            that annotates the function's parameter.
    """

    def decorate(action: Callable[[CommandT], int]) -> Callable[..., int]:
        @functools.wraps(action)
        def main(arguments: Sequence[str] | None = None) -> int:
            end_unguarded_worker()
            given = list(sys.argv[1:] if arguments is None else arguments)
            with forgiving_streams(), shown_log():
                try:
                    if parser is None:
                        declared = next(iter(get_type_hints(action).values()))
                        flags = parse(declared, given, program=program, description=description)
                    else:
                        flags = parser(given, program=program, description=description)
                    status = action(flags)
                except SystemExit as stop:  # --help
                    raise SystemExit(_printed(stop.code, program)) from None
                except (InputError, Failure, OSError) as error:
                    if "--debug" in given:
                        traceback.print_exc()
                    return _tell(error, program)
                except KeyboardInterrupt:
                    write_line(f"{program}: interrupted")
                    return INTERRUPTED
                return _printed(status, program)

        return main

    return decorate


def _tell(error: InputError | Failure | OSError, program: str) -> int:
    """Say in one line what went wrong, and return the exit status."""
    words, status = str(error), BAD_INPUT if isinstance(error, InputError) else CHECK_FAILED
    if isinstance(error, OSError):
        words, status = in_words(error), BAD_INPUT if is_of_a_path(error) else CHECK_FAILED
    write_line(f"{program}: error: {'; '.join([words, *getattr(error, '__notes__', [])])}")
    return status


def _printed(status: StatusT, program: str) -> StatusT | int:
    """Return the status of a command that came to its end, if all that it printed was taken; else that of a failure."""
    fault = lost_output()
    if fault is None:
        return status
    if isinstance(fault, BrokenPipeError):  # whoever read it has seen enough
        return 128 + signal.SIGPIPE
    write_line(
        f"{program}: error: standard output cannot be written ({fault.strerror}): what it should have shown is lost, "
        "all else is done; send it elsewhere"
    )
    return CHECK_FAILED


def end_unguarded_worker() -> None:
    """End this process if it is a worker that has come here by importing a script that lacks a main guard.

    A worker imports the script that started it. What the script calls must not run again there.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        os._exit(BAD_INPUT)
