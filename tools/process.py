"""Settings of a process that decodes frames on one core, beside others that do the same."""

from __future__ import annotations

import ctypes
import functools

import cv2

# glibc's mallopt(3)
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 1 << 25
"""The most glibc takes (bytes)."""
_KEPT = 1 << 28
"""Free memory a process may hold on to (bytes)."""


def use_one_core() -> None:
    """Keep OpenCV from starting threads, and freed memory for the next frame."""
    cv2.setNumThreads(1)
    keep_freed_memory()


@functools.cache
def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving it back.

    A decoded frame takes 3 to 8 MB. Fetched anew from the system for every frame, its pages are zeroed and mapped one
    by one, which takes a third of the time of decoding. Does nothing where the C library has no mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, _KEPT)
