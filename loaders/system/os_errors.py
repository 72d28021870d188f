"""Errors of the operating system in words: which path, what happened, what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tqdm import tqdm

from loaders.errors import Failure

NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a disk, or of a quota, that is full."""
_PROTECTED: Final = "see `ls -ld` for whose it is; have it permitted, or give a path of your own"
_PATHS: Final = {
    errno.EACCES: _PROTECTED,
    errno.EPERM: _PROTECTED,
    errno.EROFS: "give a path that is not mounted read-only",
    errno.ENOENT: "check how it is spelt, and that its folder exists",
    errno.ENOTDIR: "a file stands where a folder is expected: give another path, or move the file away",
    errno.EISDIR: "a folder stands where a file is expected: give another path, or move the folder away",
    errno.EEXIST: "give another path, or move away what is there",
    errno.ENOTEMPTY: "give another path, or move away what is there",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "its symbolic links lead in a circle: mend them, or give another path",
    errno.EINVAL: "its file system does not take such a name or file: give a path on another one",
    errno.ENOTSUP: "its file system cannot do this: give a path on another one",
    errno.ENOSYS: "its file system cannot do this: give a path on another one",
    errno.EXDEV: "give a path on the same file system",
    errno.ENXIO: "it is no regular file: give one",
    errno.ENODEV: "it is no regular file: give one",
}
"""Errors of a path that was given -> remedy."""
_MACHINE: Final = {
    errno.ENOSPC: "make room on its disk, then run again",
    errno.EDQUOT: "your quota there is used up: make room, then run again",
    errno.EFBIG: "raise `ulimit -f`, or give a path on a file system for large files",
    errno.EMFILE: "raise the limit of open files: `ulimit -n`",
    errno.ENFILE: "this machine has too many files open: end other programs",
    errno.ENOMEM: "free memory, or give a smaller batch or fewer workers",
    errno.EIO: "its disk or network failed: look at `dmesg`, then run again",
    errno.ESTALE: "its network file system lost it: mount it again, then run again",
    errno.ENOTCONN: "its network file system is gone: mount it again, then run again",
    errno.EBUSY: "another program uses it: end that, then run again",
    errno.ETXTBSY: "another program uses it: end that, then run again",
    errno.EPIPE: "the program at the other end has ended: look at its output",
    errno.ECONNRESET: "the program at the other end has ended: look at its output",
    errno.ECONNREFUSED: "nobody answers there: start the program at the other end",
    errno.ETIMEDOUT: "nobody answers there: check the network",
}
"""Errors of the machine, which another argument may not mend -> remedy."""


class DiskFullError(Failure):
    """A job's result does not fit; only who knows the other jobs can say what is needed."""


@contextlib.contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Name ``path`` in errors that name nothing, as those of a file's ``write`` do, or that name ``instead_of``."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(instead_of)):
            error.filename = str(path)
        raise


def in_words(error: OSError) -> str:
    """Return an error as one line: the path, what is wrong, the remedy."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of a tree: the first one will do
        source, target, reason = error.args[0][0]
        number = re.match(r"\[Errno (\d+)\]", reason)
        return in_words(OSError(int(number[1]), "", target)) if number else f"{source} -> {target}: {reason}"
    if error.errno is None:
        return str(error)
    given = [name for name in (error.filename, error.filename2) if name is not None]
    names = [f"file descriptor {name}" if isinstance(name, int) else os.fsdecode(name) for name in given]
    reason = error.strerror or os.strerror(error.errno)
    remedy = _PATHS.get(error.errno) or _MACHINE.get(error.errno)
    return ": ".join(filter(None, [" -> ".join(dict.fromkeys(names)), reason, remedy]))


def is_of_a_path(error: OSError) -> bool:
    """Whether another path would mend it, so that the arguments were wrong."""
    return error.errno in _PATHS


def format_bytes(size: float) -> str:
    """Return a number of bytes in words, such as ``15.2 GB``."""
    text: str = tqdm.format_sizeof(size, "B")
    return f"{text.rstrip('kMGTPB')} {text.lstrip('0123456789.')}"
