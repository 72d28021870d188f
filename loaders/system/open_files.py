"""How many files a process may have open."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_OPENED: Final = Path("/proc/self/fd")
_SPARE: Final = 32
"""For logs, checkpoints, sockets and what libraries open (files)."""


class OpenFilesError(Exception):
    """Fewer files may be open than are needed; the message names both numbers and the remedy."""


def allow_open_files(more: int) -> None:
    """Make room for so many more open files: raise the soft limit if need be, up to the hard one.

    Raises OpenFilesError if that is not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(list(_OPENED.iterdir())) + more + _SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise OpenFilesError(
            f"{needed} open files are needed and {hard} allowed: raise the limit by `ulimit -n {needed}`, which "
            "root can, or a container's --ulimit nofile"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
