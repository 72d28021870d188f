"""What every command line shares: flags from a dataclass, one clear line for an error, exit statuses."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import tyro
from tyro._errors import ParseErrorEvent, on_parse_error

from engine.complaints import complaint
from engine.flags import VALUES, keys_of
from loaders.errors import InputError, printable

OK, CHECK_FAILED, BAD_INPUT = 0, 1, 2
"""Exit statuses: success; what was asked to be checked does not hold; bad arguments or configuration."""


class Failure(Exception):
    """The work was asked for properly and cannot go on; the message is one line, the exit status 1."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags of every command."""

    debug: bool = False
    """Show the traceback of an error."""


CommandT = TypeVar("CommandT", bound=Command)


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
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return action(parse_arguments(given))
    except (InputError, Failure, OSError) as error:
        if "--debug" in given:
            traceback.print_exc()
        sys.stderr.write(f"{program}: error: {error}\n")
        return CHECK_FAILED if isinstance(error, Failure) else BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return 130
