"""Flags: their keys, and what the text after them means."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

VALUES: Final = ConstructorRegistry()
"""How text becomes a value, on command lines and in YAML files alike."""


def keys_of(flags: type) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the type of every flag, those of nested dataclasses too."""
    for name, hint in get_type_hints(flags).items():
        if dataclasses.is_dataclass(hint):
            yield from ((f"{name}.{key}", inner) for key, inner in keys_of(hint))  # type: ignore[arg-type]
        else:
            yield name, hint


def nearest(key: str, keys: Collection[str]) -> str:
    """Return what may have been meant by ``key``: one with the same last part, or one of similar letters."""

    def tail(name: str) -> str:
        return name.lstrip("-").rpartition(".")[2]

    found = [known for known in keys if tail(known) == tail(key)] or difflib.get_close_matches(key, keys, n=1)
    return f"did you mean {listed(found, 'or')}?" if found else "--help lists all"


def value_of(text: str, hint: Any) -> Any:
    """Return the value that ``text`` means to a flag of type ``hint``. Raises ValueError if it means none."""
    with VALUES:
        spec = VALUES.get_primitive_spec(PrimitiveTypeInfo.make(hint, set()))
        assert isinstance(spec, PrimitiveConstructorSpec), f"flags of type {hint} are unknown"
        if spec.choices and text not in spec.choices:
            raise ValueError(f"is {text!r}: give {listed(spec.choices, 'or')}")
        return spec.instance_from_str([text])


def listed(words: Sequence[str], last: str) -> str:
    """Return "a, b or c" if ``last`` is "or"."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _whole_number(text: str) -> int:
    try:
        number: float = int(text)
    except ValueError:
        number = _number(text, "whole")
    if int(number) != number or abs(number) >= 2**63:
        raise ValueError(f"is {text!r}: give a whole number")
    return int(number)


def _number(text: str, kind: str = "finite") -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"is {text!r}: give a {kind} number")
    return number


def _text(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 - patterns and s3:// addresses are no paths


def _path(text: str) -> Path:
    expanded = _text(text)  # as text: to a Path, ./~a is ~a
    if expanded.startswith("~"):
        raise ValueError(f"is {text!r}, and that home folder is unknown: give its path")
    if not text or "\0" in text:
        raise ValueError(f"is {text!r}: give a path")
    return Path(expanded)


_CONVERTERS: Final[dict[Any, Callable[[str], Any]]] = {int: _whole_number, float: _number, str: _text, Path: _path}


@VALUES.primitive_rule
def _single_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    convert = _CONVERTERS.get(info.type)
    if convert is None:
        return None
    accepted = (int, float) if info.type is float else info.type
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=info.type.__name__.upper(),
        instance_from_str=lambda texts: convert(texts[0]),
        is_instance=lambda value: isinstance(value, accepted),
        str_from_instance=lambda value: [str(value)],
    )


@VALUES.primitive_rule
def _optional_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Keep the value's own message, which tyro's rule for unions wraps into several lines."""
    options = set(get_args(info.type)) - {types.NoneType}
    if get_origin(info.type) not in (Union, types.UnionType) or len(options) != 1:
        return None
    spec = VALUES.get_primitive_spec(PrimitiveTypeInfo.make(options.pop(), info.markers))
    assert isinstance(spec, PrimitiveConstructorSpec)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{None}}|{spec.metavar}",
        instance_from_str=lambda texts: None if texts == ["None"] else spec.instance_from_str(texts),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
        choices=spec.choices and ("None", *spec.choices),
    )
