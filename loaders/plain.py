"""Plain values (of JSON, of a checkpoint) back to the dataclasses that they were made of."""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from models.camera import CAMERAS, Camera, FisheyeCamera

T = TypeVar("T")

_hints = functools.cache(get_type_hints)  # slow, and a manifest may list many frames


class UnknownFieldError(ValueError):
    """A field that this program does not know; the message says which, of which class."""


def from_plain(kind: type[T], values: Any) -> T:
    """Return the dataclass ``kind`` whose `dataclasses.asdict` gave ``values``; an absent field has its default.

    Raises:
        UnknownFieldError: a newer program wrote it.
        ValueError: a field is absent or has a value of another type; the message says which.
    """
    name = kind.__name__
    if not isinstance(values, dict):
        raise ValueError(f"its {name} is {values!r}, not a dictionary")
    hints = _hints(kind)  # type: ignore[arg-type]
    if unknown := sorted(map(str, values.keys() - hints.keys())):
        raise UnknownFieldError(f"{', '.join(unknown)} of {name}")
    optional = dataclasses.MISSING
    required = [f.name for f in dataclasses.fields(kind) if f.default is optional and f.default_factory is optional]  # type: ignore[arg-type]
    if absent := [field for field in required if field not in values]:
        raise ValueError(f"its {name} has no {' and no '.join(absent)}")
    return kind(**{field: _restored(hints[field], value, f"{field} of {name}") for field, value in values.items()})


def _restored(kind: Any, value: Any, where: str) -> Any:
    """Return a value of an annotated type. Raises ValueError if it is of another type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        kinds = [member for member in arguments if member is not types.NoneType]
        if len(kinds) == 1:
            return _restored(kinds[0], value, where)
        fits = type(value) in kinds
    elif dataclasses.is_dataclass(kind):
        return restored_camera(value, where) if kind is Camera else from_plain(kind, value)  # type: ignore[arg-type]
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(_restored(member, item, where) for member, item in zip(kinds, value, strict=True))
        fits = False
    elif origin is dict and isinstance(value, dict):
        return {key: _restored(arguments[1], item, where) for key, item in value.items()}
    elif origin is Literal:
        fits = value in arguments
    else:
        fits = kind is Any or type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise ValueError(f"{where} is {value!r}")
    return value


def restored_camera(values: Any, where: str) -> Camera:
    """Return a camera of the model that its plain values name, the fisheye for those that are older than the others.

    Raises ValueError, which begins with ``where``, if there is no such model, else as `from_plain`.
    """
    word = values.get("model", FisheyeCamera.model) if isinstance(values, dict) else None
    if word not in CAMERAS:
        raise ValueError(f"{where} is {values!r}, no camera of a model among {', '.join(CAMERAS)}")
    return from_plain(CAMERAS[word], values)
