"""Compiling with Numba. Its results are kept for the next start where that is possible."""

# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from typing import Any, Final

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps

from loaders.errors import warn_once

inlined: Final[Callable[[Any], Any]] = numba.njit(inline="always")
"""For what compiled functions call: a call out of kept code is not optimized with it, three times slower."""


class _Checked(CompileResultCacheImpl):
    """What is kept of a compiled function, with a checksum: a processor would run damaged code, and crash."""

    def reduce(self, cres: Any) -> tuple[bytes, bytes]:
        """Return the checksum of compiled code, and the code as bytes."""
        content = dumps(super().reduce(cres))
        return hashlib.sha256(content).digest(), content

    def rebuild(self, target_context: Any, payload: tuple[bytes, bytes]) -> Any:
        """Return compiled code that can run. Raises ValueError if it is damaged."""
        checksum, content = payload
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("damaged")
        return super().rebuild(target_context, pickle.loads(content))


class _Cache(FunctionCache):
    """Numba's cache, but one that cannot be read or written costs time and nothing else."""

    _impl_class = _Checked

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what an earlier start compiled; None if there is none, or if it is damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file raises anything
            with contextlib.suppress(OSError):
                self.flush()  # what is compiled now takes its place
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn(f"{self.cache_path}: {error}")


def compiled(function: Any) -> Any:
    """Return a function compiled for the types that it is called with; it runs without Python's lock."""
    dispatcher: Any = numba.njit(nogil=True)(function)
    try:
        # as cache=True does it, which raises where no folder can be written
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):
        _warn("no cache folder can be written")
    return dispatcher


def _warn(reason: str) -> None:
    warn_once(
        "compiled code",
        f"compiled code cannot be kept ({reason}), so every start compiles it again, which takes seconds: set "
        "NUMBA_CACHE_DIR to a folder that can be written",
    )
