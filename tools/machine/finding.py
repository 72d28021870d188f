"""What was found about one part of a machine, and how it is shown."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Final, Literal, get_args

from loaders.errors import Failure, InputError, printable

_NARROW, _WIDE = 60, 100
"""Least and most width of a line (characters)."""

Status = Literal["ok", "absent", "warning", "missing"]
"""How it stands. What is absent is needed by nobody who does not ask for it; what warns will be slow, or fail for some;
where something is missing nothing works."""
_STATUSES: Final = max(map(len, get_args(Status)))
"""Width of their column (characters)."""


@dataclass(frozen=True)
class Finding:
    """What was found."""

    status: Status
    found: str
    """The finding, with numbers and units."""
    remedy: str = ""
    """What to do about it."""
    traceback: str = ""
    """Of an error that ended the examination."""


@dataclass(frozen=True)
class Probe:
    """One examination."""

    subject: str
    function: str
    """Where the function stands that returns the finding, "module:name": its module may lack what it imports."""
    arguments: tuple[str, ...] = ()
    if_it_fails: Status = "warning"
    """The status if the function raises."""
    remedy: str = "see `--debug` for where it failed"
    """What to do then."""

    def finding(self) -> Finding:
        """Return what is found; whatever is raised is a finding, too."""
        try:
            function: Callable[..., Finding] = resolve_name(self.function)
            return function(*self.arguments)
        except Exception as error:
            remedy = "" if isinstance(error, InputError) else self.remedy  # which such an error says itself
            return Finding(self.if_it_fails, first_line(error), remedy, traceback.format_exc())


def expect(right: object, given: object) -> None:
    """Raise Failure if something gave a wrong result."""
    if given != right:
        raise Failure(f"gives {given}, where {right} is right")


def first_line(error: BaseException) -> str:
    """Return an error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = "" if isinstance(error, ImportError | InputError | Failure) else type(error).__name__
    return textwrap.shorten(": ".join(filter(None, [name, *lines[:1]])), 300) or type(error).__name__


@dataclass(frozen=True)
class Layout:
    """Columns of the lines that are printed."""

    subjects: Sequence[str]
    width: int
    """Of the terminal (characters)."""

    def lines(self, subject: str, finding: Finding) -> str:
        """Return a finding as a line, or as several if it is long or there is a remedy."""
        start = f"{finding.status:<{_STATUSES}}  {subject:<{max(map(len, self.subjects))}}  "
        indent = " " * len(start)
        wrapper = textwrap.TextWrapper(
            min(max(self.width, _NARROW), _WIDE) - 1, break_long_words=False, break_on_hyphens=False
        )
        wrapper.initial_indent, wrapper.subsequent_indent = start, indent
        lines = wrapper.wrap(printable(finding.found))
        if finding.remedy:
            wrapper.initial_indent, wrapper.subsequent_indent = f"{indent}-> ", f"{indent}   "
            lines += wrapper.wrap(printable(finding.remedy))
        return "".join(f"{line}\n" for line in lines)
