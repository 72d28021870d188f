"""The headset's frame: the camera is fixed to the head, so a pose of any origin has one place before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.camera import Floats
from models.xr_egopose import HEAD


@dataclass(frozen=True)
class HeadPosition:
    """Where the head is in the camera frame, over the frames of a training split (metres)."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]
    """Standard deviation of each coordinate; of the released data zero but for rounding."""
    joint: int = HEAD
    """The joint that it is."""

    @classmethod
    def of(cls, poses: Floats, joint: int) -> HeadPosition:
        """Return it for poses (n, J, 3) in the camera frame, metres, whose head is that joint."""
        head = np.asarray(poses, np.float64)[:, joint]
        return cls(tuple(head.mean(0).tolist()), tuple(head.std(0).tolist()), joint)

    def place(self, poses: Floats) -> Floats:
        """Return poses (..., J, 3) of any origin, metres, moved so that their Head is where it always is."""
        return poses - poses[..., self.joint : self.joint + 1, :] + np.asarray(self.mean, poses.dtype)
