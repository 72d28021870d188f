"""Classes of users' own, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

from loaders.errors import InputError

T = TypeVar("T")

NAMED: Final = "package.module:Class or path/to/file.py:Class"
"""How a class is named."""


def find_class(name: str, base: type[T], attributes: Sequence[str] = ()) -> type[T]:
    """Return a class by its name, see `NAMED`. Modules are looked for in the working folder as well.

    Args:
        name: of the class.
        base: what it must be derived from.
        attributes: what it must have beside the abstract methods of its base.

    Raises:
        InputError: it cannot be found or imported, or it is not what it must be; in one line.
    """
    where, _, attribute = name.rpartition(":")
    if not (where and attribute):
        raise InputError(f"{name!r} names no class: give {NAMED}")
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    found = getattr(module, attribute, None)
    expected = _public_name(base)
    if not isinstance(found, type):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise InputError(f"{where} has no class {attribute}; it has {', '.join(own) or 'none'}")
    if not issubclass(found, base):
        raise InputError(f"{name} is not derived from {expected}")
    lacking = [
        *sorted(getattr(found, "__abstractmethods__", ())),
        *(key for key in attributes if not hasattr(found, key)),
    ]
    if lacking:
        raise InputError(f"{name} lacks {' and '.join(lacking)}: see {expected}")
    return found


def _public_name(base: type) -> str:
    """Return the shortest name that a class can be imported by: packages export what lies in modules of theirs."""
    module = base.__module__
    while (above := module.rpartition(".")[0]) and getattr(sys.modules[above], base.__name__, None) is base:
        module = above
    return f"{module}.{base.__name__}"


def _import_module(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:  # a program's own folder is, which is not where it was started
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a user's module raises
        raise _failed(name, error) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file once, however often it is named."""
    if not path.is_file():
        raise InputError(f"{path} is no file: give {NAMED}")
    # without a dot, before which pickle would look for a package
    name = f"own_class {path.resolve()}".replace(".", "%2e")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's module raises
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


def _failed(module: str, error: Exception) -> InputError:
    return InputError(f"{module} cannot be imported: {type(error).__name__}: {error}")
