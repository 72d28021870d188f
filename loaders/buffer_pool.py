"""Host memory for batches, used again and again."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RecycledArrays:
    """Hands out arrays of one shape and type; the memory of those that nobody holds any more is handed out again.

    The C library gives large blocks back to the system at once; faulting their pages in anew costs as much as decoding.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shape = shape
        self._dtype = dtype
        self._free: list[NDArray[Any]] = []

    def take(self, n: int) -> NDArray[Any]:
        """Return the first ``n`` rows of an array, not initialized. Tensors made of it keep it taken."""
        memory = self._free.pop() if self._free else np.empty(self._shape, self._dtype)
        rows = memory[:n]
        # whatever shares the memory keeps this view alive
        weakref.finalize(rows, self._free.append, memory).atexit = False
        return rows
