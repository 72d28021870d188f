"""The headset's frame: the camera is fixed to the head, so a pose relative to Neck has one place before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.camera import Floats
from models.skeleton import HEAD


@dataclass(frozen=True)
class HeadPosition:
    """Where Head is in the camera frame, over the frames of a training split (metres)."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]
    """Standard deviation of each coordinate; of the released data zero but for rounding."""

    @classmethod
    def of(cls, poses: Floats) -> HeadPosition:
        """Return it for poses (n, 16, 3) in the camera frame, metres."""
        head = np.asarray(poses, np.float64)[:, HEAD]
        return cls(tuple(head.mean(0).tolist()), tuple(head.std(0).tolist()))

    def place(self, poses: Floats) -> Floats:
        """Return poses (..., 16, 3) of any origin, metres, moved so that their Head is where it always is."""
        return poses - poses[..., HEAD : HEAD + 1, :] + np.asarray(self.mean, poses.dtype)
