"""Windows: several frames of one recording, some numbers apart, wherever they lie in a shard set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_windows(keys: NDArray[np.bytes_], length: int, stride: int) -> NDArray[np.int64]:
    """Return the windows (n, length) of a split: the positions of their frames, in the order of their numbers.

    A window exists where all of its frames do. Windows come in the order of their last frames' positions. Nothing but
    the index is read.

    Args:
        keys: (samples,) as `loaders.format.sample.sample_key` makes them: "SUBJECT-ENVIRONMENT-FRAME".
        length: frames in a window (frames).
        stride: distance of neighbors (frame numbers).
    """
    positions = np.arange(len(keys))[:, None]
    if length == 1 or not len(keys):
        return positions.repeat(length, 1)
    names, _, numbers = np.char.rpartition(keys, b"-").T
    recordings = np.unique(names, return_inverse=True)[1]
    frames = numbers.astype(np.int64)
    # one number says recording and frame; the gap between recordings is wider than a window
    codes = recordings * (frames.max() + length * stride + 1) + frames
    order = np.argsort(codes)
    wanted = codes[:, None] - stride * np.arange(length)[::-1]
    found = order[np.searchsorted(codes, wanted, sorter=order).clip(max=len(order) - 1)]
    return np.asarray(found[(codes[found] == wanted).all(1)], np.int64)
