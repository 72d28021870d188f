"""Folders where libraries keep what the next start would otherwise make again."""

from __future__ import annotations

import tempfile
from pathlib import Path

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
    import matplotlib  # noqa: PLC0415

    folder = Path(matplotlib.get_cachedir())
    if folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith("matplotlib-"):  # made for this process
        return Finding(
            "warning",
            "no folder for its list of fonts can be written: every start makes it again",
            "set MPLCONFIGDIR to a writable folder",
        )
    return Finding("ok", f"kept in {folder}")
