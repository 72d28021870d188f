"""The progress bars of all commands."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*, total: int, unit: str, **options: Any) -> tqdm[Any]:
    """Return a bar on the error stream; a log, which nobody watches, gets a line now and then, and none of short work.

    ``options`` are tqdm's.
    """
    pause, delay = (0.2, 0.0) if sys.stderr.isatty() else (30.0, 30.0)
    return tqdm(total=total, unit=unit, mininterval=pause, delay=delay, dynamic_ncols=True, file=sys.stderr, **options)
