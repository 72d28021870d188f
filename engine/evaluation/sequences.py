"""How poses move from frame to frame, where frames are consecutive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Poses = NDArray[np.floating[Any]]
Values = NDArray[np.float64]


def motion_metrics(predicted: Poses, true: Poses, meta: NDArray[np.int32]) -> dict[str, Values]:
    """Return (n,) by name: acceleration error, and the jitter of the predicted and the true poses.

    Acceleration is the second difference of three consecutive frames, jitter the third of four, both the mean length
    over joints, by frame: mm/frame^2 and mm/frame^3. The error is the length of the difference of both accelerations:
    Kanazawa et al., "Learning 3D Human Dynamics from Video", CVPR 2019. It stands at the middle frame, jitter at the
    second one; other frames are NaN. Frames are consecutive if their numbers are, within an action of a recording.

    Args:
        predicted: (n, J, 3), mm.
        true: as ``predicted``.
        meta: (n, 4): subject, environment, frame, action.
    """
    subject, environment, frame, action = meta.T
    order = np.lexsort((frame, action, environment, subject))
    step = np.diff(meta[order].astype(np.int64), axis=0)
    follows = (step == [0, 0, 1, 0]).all(1)
    predicted, true = (np.asarray(poses, np.float64)[order] for poses in (predicted, true))
    differences = {
        "acceleration_error_mm_per_frame2": (predicted - true, 2),
        "jitter_mm_per_frame3": (predicted, 3),
        "true_jitter_mm_per_frame3": (true, 3),
    }
    metrics = {}
    for name, (poses, degree) in differences.items():
        values = np.full(len(meta), np.nan)
        if len(meta) > degree:
            whole = np.lib.stride_tricks.sliding_window_view(follows, degree).all(1)
            lengths = np.linalg.norm(np.diff(poses, degree, axis=0), axis=2).mean(1)
            values[order[1 : len(lengths) + 1][whole]] = lengths[whole]
        metrics[name] = values
    return metrics
