"""Files of torch.save that hold objects of other programs, read without executing anything of theirs."""

from __future__ import annotations

import _compat_pickle
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import torch

_OLD_FORMAT: Final = 4
"""Pickles with which a file of the old format begins: magic number, version, kind of machine, content."""


class Foreign:
    """Stands for an object of another program: takes what the file gives it, and keeps nothing."""

    def __new__(cls, *_: object) -> Foreign:
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"a {type(self).__name__}"


def load(path: Path) -> Any:
    """Read a file into host memory; objects of types that torch does not know become `Foreign`.

    Raises whatever torch raises for bytes that it cannot read.
    """
    with warnings.catch_warnings(action="ignore"):  # of old formats and protocols: either they load, or they do not
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            stand_ins: list[Any] = [(_stand_in(name), name) for name in _names(path)]
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> Callable[..., Any]:
    """Return what is called instead of the function or class of that name."""
    containers: dict[str, Callable[..., Any]] = {
        "collections.defaultdict": lambda *_: OrderedDict(),
        "collections.deque": lambda *_: [],
    }
    # messages name a type of "builtins" without its module, which stands in the name
    return containers.get(name) or type(name, (Foreign,), {"__module__": "builtins"})


def _names(path: Path) -> set[str]:
    """Return the functions and classes that a file refers to, each as module.name."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return {name for _ in range(_OLD_FORMAT) for name in _names_in_pickle(file)}
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(member) as file:
            return set(_names_in_pickle(file))


def _names_in_pickle(file: IO[bytes]) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
            # pickles have Python 2's names, of which torch's reader makes today's
            renamed = _compat_pickle.IMPORT_MAPPING.get(module, module), name
            yield ".".join(_compat_pickle.NAME_MAPPING.get((module, name), renamed))
