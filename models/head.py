"""The headset's frame: the camera is fixed to the head, so a pose relative to Neck has one place before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.camera import Floats
from models.skeleton import Skeleton
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
    def of(cls, poses: Floats, skeleton: Skeleton) -> HeadPosition | None:
        """Return it for poses (n, J, 3) in the camera frame, metres; None for a skeleton without a head."""
        if skeleton.head is None:
            return None
        head = np.asarray(poses, np.float64)[:, skeleton.head]
        return cls(tuple(head.mean(0).tolist()), tuple(head.std(0).tolist()), skeleton.head)

    def place(self, poses: Floats) -> Floats:
        """Return poses (..., J, 3) of any origin, metres, moved so that their Head is where it always is."""
        return poses - poses[..., self.joint : self.joint + 1, :] + np.asarray(self.mean, poses.dtype)
