"""Folders where libraries keep what the next start would otherwise make again."""

from __future__ import annotations

import os

from tools.machine.finding import Finding


def numba() -> Finding:
    """See where compiled code is kept."""
    from loaders.area_resize import _resize  # noqa: PLC0415

    folder = _resize._cache.cache_path
    if folder is None:
        return Finding(
            "warning",
            "no folder for it can be written: every start compiles for some seconds",
            "set NUMBA_CACHE_DIR to a writable folder",
        )
    return Finding("ok", f"kept in {folder}")


def matplotlib() -> Finding:
    """See where Matplotlib keeps its list of fonts."""
    given = os.environ.get("MPLCONFIGDIR")
    import matplotlib  # noqa: PLC0415

    folder = matplotlib.get_cachedir()
    if os.environ.get("MPLCONFIGDIR") != given:  # it made a temporary folder instead
        return Finding(
            "warning",
            "no folder for its list of fonts can be written: every start makes it again",
            "set MPLCONFIGDIR to a writable folder",
        )
    return Finding("ok", f"kept in {folder}")
