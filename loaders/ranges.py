"""Ranges of the numbers in configurations."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from loaders.errors import InputError


class Range(NamedTuple):
    """The numbers that a field may hold."""

    least: float
    most: float = math.inf
    inside: bool = False
    """Whether the two ends are left out."""

    def holds(self, value: float) -> bool:
        """Return whether ``value`` lies in the range; non-finite numbers lie in none."""
        if self.inside:
            return self.least < value < self.most
        return self.least <= value <= self.most and abs(value) < math.inf

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"a number above {self.least}" if self.inside else f"at least {self.least}"
        return f"a number between {self.least} and {self.most}" if self.inside else f"{self.least} to {self.most}"


POSITIVE: Final = Range(0, inside=True)


def check_ranges(config: object, prefix: str = "", **ranges: Range) -> None:
    """Raise InputError for the first field of ``config`` that is out of its range; None is in every range.

    Args:
        config: the dataclass.
        prefix: what stands before the fields' names: "--" for the flags of a command, which are written with hyphens,
            "optim." for keys of a run's configuration.
        ranges: range by field.
    """
    for name, allowed in ranges.items():
        value = getattr(config, name)
        if value is not None and not allowed.holds(value):
            wanted = allowed if abs(value) < math.inf else "a finite number"
            shown = name.replace("_", "-") if prefix == "--" else name
            raise InputError(f"{prefix}{shown} is {value}: give {wanted}")
