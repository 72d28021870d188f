"""Refuses to mix this project's packages with somebody else's of the same names, which are common ones.

It is run by its path, before its package is imported: which `models` an import would find is the question. So it
imports nothing of this project.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path


def check_siblings(package: str, *siblings: str) -> None:
    """Make sure that the packages which Python would import are those that lie beside this one.

    Args:
        package: the package that is being imported, such as "engine".
        siblings: those that it needs, such as "loaders".

    Raises:
        ImportError: Python finds another module or package, or none; the message says both paths and what to do.
    """
    folder = Path(__file__).resolve().parents[1]
    for name in siblings:
        own, found = folder / name / "__init__.py", _found(name)
        if any(path.resolve() == own for path in found):
            continue
        there = f"finds {found[0]}" if found else "finds none"
        remedy = "start Python with -P, or rename what it finds first"
        if name in sys.modules:
            there = f"has imported {found[0] if found else 'another one'} before"
            remedy = "use them in different processes, or rename that one"
        raise ImportError(
            f"package {package!r} in {folder} needs the package {name!r} beside it, {own}, but Python {there}: "
            f"{remedy}",
            name=name,
            path=str(found[0]) if found else None,
        )


def _found(name: str) -> list[Path]:
    """Return the files of a module that is imported or would be; the folders, if it is a namespace package."""
    try:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else None
    except ValueError:
        return []
    where = [getattr(module, "__file__", None), spec.origin if spec else None]
    folders: Iterable[str] = getattr(module, "__path__", None) or (spec and spec.submodule_search_locations) or ()
    return [Path(path) for path in [*where, *folders] if path]
