"""Which frames of a split a sheet shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice, zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["worst", "best", "difference", "spread"]


def choose(order: Order, meta: NDArray[np.int32], errors: Sequence[NDArray[np.floating[Any]]], count: int) -> list[int]:
    """Return the positions in the split of the frames to show, at most ``count``, in their order.

    Args:
        order: worst and best go by the first errors, difference by how far the two are apart; spread needs none and
            sorts by recording.
        meta: (n, 4): subject, environment, frame, action.
        errors: (n,) of each checkpoint.
        count: of frames.
    """
    if order == "spread":
        return _spread(meta, count)
    ranked_by = -errors[0] if order == "worst" else errors[0]
    if order == "difference":
        ranked_by = -np.abs(errors[0] - errors[1])
    chosen: list[int] = np.argsort(ranked_by, kind="stable")[:count].tolist()
    return chosen


def _spread(meta: NDArray[np.int32], count: int) -> list[int]:
    """Return frames of all actions, of all recordings of an action, and evenly spaced in time within these.

    Actions take turns, and so do the recordings of an action. So few frames show as much as they can.
    """
    by_action: dict[int, list[NDArray[np.int64]]] = {}
    for frames in _recordings_of_actions(meta):
        by_action.setdefault(int(meta[frames[0], 3]), []).append(frames)
    # each action begins with another recording, or few frames would all be of the first subject
    turned = [part[i % len(part) :] + part[: i % len(part)] for i, part in enumerate(by_action.values())]
    queue = [frames for turn in zip_longest(*turned) for frames in turn if frames is not None]
    longest = max(map(len, queue), default=0)
    turns = (i for lap in range(longest) for i, frames in enumerate(queue) if lap < len(frames))
    chosen: list[int] = []
    for i, share in Counter(islice(turns, count)).items():
        middles = (np.arange(share) + 0.5) * len(queue[i]) / share
        chosen += queue[i][middles.astype(int)].tolist()
    return sorted(chosen, key=lambda row: tuple(meta[row, :3]))


def _recordings_of_actions(meta: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the positions of each action's frames in each recording, by time; sorted by action, then recording."""
    subject, environment, frame, action = meta.T
    ordered = np.lexsort((frame, environment, subject, action))
    changes = np.diff(meta[ordered][:, [3, 0, 1]], axis=0).any(axis=1)
    return np.split(ordered, np.flatnonzero(changes) + 1) if len(meta) else []
