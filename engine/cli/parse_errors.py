"""One line about arguments that cannot be used, instead of the parser's framed and wrapped page."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

from tyro import _errors as errors
from tyro._arguments import ArgumentDefinition

from engine.cli.flags import listed, nearest


def complaint(
    event: errors.ParseErrorEvent, arguments: Sequence[str], keys: Collection[str], example: str
) -> str | None:
    """Say what is wrong, and what to type instead; None if the parser should say so itself.

    Args:
        event: what the parser does not like.
        arguments: all that were given.
        keys: dotted keys of all flags.
        example: arguments to show to somebody who gave none.
    """
    match event:
        # an unknown flag is often a required one that is misspelt, so it goes first
        case errors.UnrecognizedArgs(tokens=tokens) | errors.MissingArgs(unrecognized_tokens=[_, *_] as tokens):
            return _unknown(tokens, arguments, [f"--{key.replace('_', '-')}" for key in keys])
        case errors.MissingArgs(prog=program, missing_arguments=missing):
            return _missing(program, [each.arg for each in missing], arguments, example)
        case errors.InvalidChoice(argument=argument, value=value, choices=choices):
            return f"{_flag(argument)} is {value!r}: give {listed(choices, 'or')}"
        case errors.BadValue(argument=argument):
            kind = (argument.lowered.metavar or "").removeprefix("{None}|")
            return f"{_flag(argument)} has no value: give {_flag(argument)} {kind}"
        case errors.InstantiationFailure(argument=ArgumentDefinition() as argument, message=message):
            return f"{_flag(argument)} {message}"
        case _:
            return None


def _unknown(tokens: Sequence[str], arguments: Sequence[str], flags: Collection[str]) -> str:
    for token in tokens:
        if token.startswith("-"):
            flag = token.partition("=")[0]
            return f"{flag} is no flag: {nearest(flag, flags)}"
    position = arguments.index(tokens[0]) if tokens[0] in arguments else 0
    after = f" after {arguments[position - 1]}" if position else ""
    return f"{tokens[0]!r}{after} is one argument too many: switches take no value, values with spaces need quotes"


def _missing(program: str, missing: Sequence[ArgumentDefinition], arguments: Sequence[str], example: str) -> str:
    shown = []
    added = [shlex.join(arguments)] if arguments else []
    for argument in missing:
        flag, choices = _flag(argument), argument.lowered.choices
        shown.append(f"{flag} ({listed(choices, 'or')})" if choices else flag)
        added += [flag, choices[0] if choices else flag.lstrip("-").rpartition(".")[2].replace("-", "_").upper()]
    if arguments or not example:
        example = " ".join(added)
    start = f"-m {program}" if "." in program else f"engine/{program}.py"
    verb = "are" if len(missing) > 1 else "is"
    return f"{listed(shown, 'and')} {verb} missing; for example: python {start} {example}"


def _flag(argument: ArgumentDefinition) -> str:
    return argument.lowered.name_or_flags[-1]  # aliases come first
