"""Many files at once: as memory, without a descriptor for each, or with a higher limit of open files."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import weakref
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED: Final = ctypes.c_void_p(-1).value
_OPENED: Final = Path("/proc/self/fd")
_SPARE: Final = 32
"""For logs, checkpoints, sockets and what libraries open (files)."""


class _Mapping:
    """The memory of a mapped file, as numpy takes it. It lasts as long as an array that shows a part of it.

    Python's `mmap`, and numpy's `memmap` with it, keeps a descriptor as long as the mapping, unless it is Python 3.13
    and told not to: a thousand shards would need more than a process may have.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            too_many = ", or vm.max_map_count mappings reached" if number == errno.ENOMEM else ""
            raise OSError(number, os.strerror(number) + too_many, str(path))
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address, True)}
        # at the program's end threads may still read
        weakref.finalize(self, _LIBC.munmap, address, size).atexit = False


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return a file's bytes, read-only; they are read from the disk when they are looked at. Raises OSError."""
    return np.asarray(_Mapping(path))


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
