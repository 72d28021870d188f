"""Room on a disk."""

from __future__ import annotations

import errno
from typing import Final

from tqdm import tqdm

from loaders.errors import Failure

NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a disk, or of a quota, that is full."""


class DiskFullError(Failure):
    """A job's result does not fit; only who knows the other jobs can say what is needed."""


def in_words(size: float) -> str:
    """Return a number of bytes in words, such as ``15.2 GB``."""
    text: str = tqdm.format_sizeof(size, "B")
    return f"{text.rstrip('kMGTPB')} {text.lstrip('0123456789.')}"
