"""Augmentation as arrays: what happens to a sample is a pure function of (seed, epoch, sample).

An image is flipped about the vertical through the principal point, then rotated about the principal point. A rotation
or flip of the scene about the optical axis moves the fisheye camera's image in exactly this way (in units of the focal
lengths), so 2D and 3D labels stay consistent. Color jitter is one affine map of RGB. All loaders apply the numbers
computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loaders.epoch_order import counter_hash
from loaders.ranges import Range, check_ranges
from models.camera import Camera
from models.skeleton import Skeleton

_LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in gray (ITU-R BT.601)."""

_MID_GRAY: Final = 127.5

_ROTATION, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION = range(5)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training samples are varied; all zero is no augmentation."""

    rotation: float = 0.0
    """Largest rotation about the principal point, either way (degrees, 0 to 180)."""
    horizontal_flip: float = 0.0
    """Probability of a horizontal flip, left and right joints exchanged (0 to 1)."""
    brightness: float = 0.0
    """Brightness factors are drawn from 1 - x to 1 + x (0 to 1)."""
    contrast: float = 0.0
    """Contrast factors, about mid-gray, are drawn from 1 - x to 1 + x (0 to 1)."""
    saturation: float = 0.0
    """Saturation factors are drawn from 1 - x to 1 + x (0 to 1)."""

    def __post_init__(self) -> None:
        share = Range(0, 1)
        check_ranges(
            self,
            "data.augment.",
            rotation=Range(0, 180),
            horizontal_flip=share,
            brightness=share,
            contrast=share,
            saturation=share,
        )

    @property
    def moves(self) -> bool:
        """Whether pixels move."""
        return self.rotation > 0 or self.horizontal_flip > 0

    @property
    def jitters_color(self) -> bool:
        """Whether colors change."""
        return self.brightness > 0 or self.contrast > 0 or self.saturation > 0


@dataclass(frozen=True)
class Augmentation:
    """What happens to each of n samples."""

    angle: NDArray[np.float64]
    """(n,), radians, clockwise on the screen."""
    flip: NDArray[np.bool_]
    """(n,)."""
    color: NDArray[np.float32]
    """(n, 3, 4): RGB' = color[:, :3] @ RGB + color[:, 3], in gray levels of 0 to 255."""

    def linear(self) -> NDArray[np.float64]:
        """Return (n, 2, 2): flip and rotation of camera-frame x and y; z stays."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        sign = np.where(self.flip, -1.0, 1.0)
        return np.stack([np.stack([cos * sign, -sin], -1), np.stack([sin * sign, cos], -1)], -2)

    def warp(self, camera: Camera) -> NDArray[np.float64]:
        """Return (n, 2, 3): the affine map from the camera's pixels to the augmented image's pixels."""
        return camera.turned(self.linear())

    def move_joints(
        self, joints_2d: NDArray[np.float32], joints_3d: NDArray[np.float32], camera: Camera, skeleton: Skeleton
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Apply to joints_2d (n, J, 2), pixels of ``camera``, and joints_3d (n, J, 3), metres, camera frame."""
        warp = self.warp(camera)
        moved_2d = joints_2d @ warp[:, :, :2].swapaxes(1, 2) + warp[:, None, :, 2]
        moved_3d = np.concatenate([joints_3d[..., :2] @ self.linear().swapaxes(1, 2), joints_3d[..., 2:]], axis=2)
        exchange, other = self.flip[:, None, None], skeleton.flip_indices
        moved_2d = np.where(exchange, moved_2d[:, other], moved_2d)
        moved_3d = np.where(exchange, moved_3d[:, other], moved_3d)
        return moved_2d.astype(np.float32), moved_3d.astype(np.float32)


def draw(config: AugmentConfig, seed: int, epoch: int, samples: NDArray[np.int64]) -> Augmentation:
    """Return what happens to ``samples`` (n,) in an epoch; independent of batches, ranks and call order."""

    def uniform(use: int) -> NDArray[np.float64]:
        return (counter_hash(1 + use, seed, epoch, samples) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def factor(use: int, spread: float) -> NDArray[np.float64]:
        return 1 + spread * (2 * uniform(use) - 1)

    brightness = factor(_BRIGHTNESS, config.brightness)
    contrast = factor(_CONTRAST, config.contrast)
    saturation = factor(_SATURATION, config.saturation)
    mixing = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * _LUMA
    color = np.empty((len(samples), 3, 4), np.float32)
    color[:, :, :3] = (contrast * brightness)[:, None, None] * mixing
    color[:, :, 3] = (_MID_GRAY * (1 - contrast))[:, None]
    return Augmentation(
        angle=np.radians(config.rotation) * (2 * uniform(_ROTATION) - 1),
        flip=uniform(_FLIP) < config.horizontal_flip,
        color=color,
    )
