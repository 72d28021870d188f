"""Windows of the frames that come one after another, batch by batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Image


class FrameWindows:
    """Finds each frame's window among the frames of its batch and the last ones of the batches before.

    The window of frame i of a sequence is i - (length - 1) * stride, ..., i - stride, i. Frames before the first are
    the first. How frames are cut into batches changes nothing.
    """

    def __init__(self, length: int, stride: int) -> None:
        """No frame has come yet.

        Args:
            length: frames in a window (frames).
            stride: distance of neighbors (frames).
        """
        self._reach = stride * np.arange(length)[::-1]
        """How far each frame of a window lies before its last (frames)."""
        self._sequence: Hashable | None = None
        """Of the last frame."""
        self._past: list[Image] = []
        """Its last frames, as far as windows of later ones reach."""

    def add(
        self, squares: Sequence[Image], sequences: Sequence[Hashable | None]
    ) -> tuple[list[Image], NDArray[np.int64]]:
        """Return the frames that the windows of n frames hold, each once, and which of them each window holds.

        The latter are positions (n, length) among the former.

        Args:
            squares: n, (S, S, 3), one after another.
            sequences: n, what each is a frame of; None is a frame by itself. All of a sequence come together.
        """
        if not squares:
            return [], np.empty((0, len(self._reach)), np.int64)
        frames = [*self._past, *squares]
        of = [*[self._sequence] * len(self._past), *sequences]
        begins = [i == 0 or of[i] is None or of[i] != of[i - 1] for i in range(len(of))]
        positions = np.arange(len(frames))
        first = np.maximum.accumulate(np.where(begins, positions, 0))
        new = positions[len(self._past) :, None]
        windows = np.maximum(new - self._reach, first[new])
        self._sequence = of[-1]
        self._past = frames[max(first[-1], len(frames) - int(self._reach[0])) :]
        used, windows = np.unique(windows, return_inverse=True)
        return [frames[i] for i in used], windows.reshape(len(squares), -1).astype(np.int64)
