"""What this machine lacks, said once: the work goes on without it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from typing import Final

_SAID: Final[set[str]] = set()


def warn_once(lack: str, message: str) -> None:
    """Write one line to the standard error, unless this machine's processes have been told of this lack already.

    Worker processes leave it to their parent, and processes that torchrun started to the first one of the machine.
    """
    # a worker's `parent_process` is not known yet while it imports
    worker = multiprocessing.current_process().name != "MainProcess"
    if lack in _SAID or worker or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    _SAID.add(lack)
    from tqdm import tqdm  # noqa: PLC0415 - seldom needed

    with contextlib.suppress(OSError, ValueError):  # a warning that nobody can read ends nothing
        tqdm.write(f"warning: {message}", file=sys.stderr)  # on a line of its own, above a progress bar
