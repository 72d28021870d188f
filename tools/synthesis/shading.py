"""Colors of the body under the recording's light, and what the sensor makes of them.

Shading works at half the image's resolution; what falls between two pixels is smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.synthesis.appearance import MATERIALS, SOLIDS
from tools.synthesis.outfit import PIXELS_PER_CM, SHIRT, SIDE, Outfit
from tools.synthesis.room import Light

_FACE: Final = np.array([0.0, -12.0, 4.0], np.float32)
"""What keeps the light from neck and chest: the head, camera frame (cm)."""
_FACE_REACH: Final = 13.0

_TEXTURES: Final = np.append(0, MATERIALS * SIDE).astype(np.int32)
"""First row of each solid number's texture among all of them."""
_HEAD: Final = np.array([False, *(solid.start == "Head" for solid in SOLIDS)])
_BOUNCE: Final = np.where(_HEAD, 0.7, 0.0).astype(np.float32)
"""Least ambient light of each solid number: the floor lights the face from below."""
_SHADE: Final = np.where(_HEAD, 0.0, 0.5).astype(np.float32)
"""How much of the light the head keeps from each solid number."""

_SHIRT: Final = np.append(False, np.array([solid.material == SHIRT for solid in SOLIDS]))
"""Whether each solid number is a part of the shirt's body."""
_CREASE: Final = (15, 15)
"""Over how many pixels of the half image creases are smoothed, twice."""

LEAST: Final = 4
"""Least value inside the image circle, and the step of all values: with fewer levels images compress better."""

_GRAINS: Final = 3
"""Fields of grain to choose from, with a random offset."""


@dataclass(frozen=True)
class Exposure:
    """How the sensor answers in one frame."""

    curve: NDArray[np.uint8]
    """(1, 256, 3), the value for each value of light: gain, contrast and color cast."""
    blur: float
    """Standard deviation of the blur (pixels of the half image)."""
    grain: int
    """Strength of the grain, 0 to 2."""
    offset: tuple[int, int]
    """Where the frame's part of the grain begins."""


def draw_exposure(recording: np.random.Generator, frame: np.random.Generator) -> Exposure:
    """Draw the exposure of a frame; the color cast, the contrast and the level belong to its recording."""
    cast = recording.normal(1.0, 0.04, 3)
    gamma, level, grain = (
        recording.uniform(0.75, 1.35),
        recording.normal(0.05, 0.22),
        int(recording.choice([0, 0, 1, 1, 2])),
    )
    gain = np.exp(level + frame.normal(0, 0.12)) * cast
    steps = np.linspace(0, 1, 256)[:, None] ** gamma * gain
    # bright values saturate softly, as in a rendered picture
    soft = np.where(steps < 0.8, steps, 0.8 + 0.2 * np.tanh((steps - 0.8) / 0.2))
    curve = np.clip(soft * 255, LEAST, 255).astype(np.uint8)[None]
    blur = float(frame.choice([0.0, 0.0, 0.6, 0.9]))
    return Exposure(curve, blur, grain, (int(frame.integers(64)), int(frame.integers(64))))


def draw_grain(height: int, width: int) -> list[NDArray[np.int16]]:
    """Return the grain of an image for each strength, in whole steps, so that files stay small."""
    random = np.random.default_rng(0)
    normal = random.standard_normal((height + 64, width + 64, 1), np.float32)
    return [np.repeat(np.rint(normal * strength), 3, axis=-1).astype(np.int16) for strength in range(_GRAINS)]


def texture_maps(
    origins: NDArray[np.float64], axes: NDArray[np.float64], world_to_camera: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return for each solid number the rows (S + 1, 2, 4) that turn camera points into pixels of its texture."""
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    directions = axes @ rotation.T * PIXELS_PER_CM
    directions[:, 1] *= -1
    shift = SIDE / 2 - (directions * (origins @ rotation.T + translation)[:, None]).sum(axis=-1)
    maps = np.zeros((len(origins) + 1, 2, 4), np.float32)
    maps[1:, :, :3], maps[1:, :, 3] = directions, shift
    return maps


@dataclass(frozen=True)
class Surface:
    """The body's N visible points of an image."""

    points: NDArray[np.float32]
    """(N, 3), camera frame (cm)."""
    solid: NDArray[np.uint8]
    """(N,), number of the solid."""
    cosine: NDArray[np.float32]
    """(N,), between surface and light."""
    soft: NDArray[np.float32]
    """(N,), the same of a shirt without the creases between its solids (`soften`)."""


def soften(cosine: NDArray[np.float32], solid: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean (h, w) over the pixels of the shirt nearby: solids meet in creases that cloth has not."""
    shirt = _SHIRT.astype(np.float32)[solid]
    total, weight = (cv2.blur(cv2.blur(image, _CREASE), _CREASE) for image in (cosine * shirt, shirt))
    return np.asarray(total / np.maximum(weight, 1e-3), np.float32)


def shade(surface: Surface, maps: NDArray[np.float32], outfit: Outfit, light: Light) -> NDArray[np.uint32]:
    """Return the packed colors (N,), blue green red, of points; ``maps`` (`texture_maps`) lead to their textures."""
    points = surface.points
    across, along = (
        (np.einsum("nj,nj->n", rows[:, :3], points) + rows[:, 3]).astype(np.int32) & (SIDE - 1)
        for rows in (maps[:, axis].take(surface.solid, axis=0) for axis in (0, 1))
    )
    texture = _TEXTURES[surface.solid]
    color = outfit.tiles.view(np.uint32).ravel().take((texture + along) * SIDE + across)
    # half Lambert: surfaces turned away from the light keep their shape
    half = 0.5 + 0.5 * np.where(_SHIRT[surface.solid], surface.soft, surface.cosine)
    ambient = np.maximum(np.float32(light.ambient), _BOUNCE)[surface.solid]
    level = ambient + np.float32(1.25) * (1 - ambient) * half * half
    away = points - _FACE
    level *= 1 - _SHADE[surface.solid] * np.exp(np.einsum("ni,ni->n", away, away) * np.float32(-0.5 / _FACE_REACH**2))
    level *= np.float32(1.08) - points[:, 2] * np.float32(0.002)
    lit = np.minimum(color.view(np.uint8).reshape(-1, 4) * level[:, None], np.float32(255))
    packed: NDArray[np.uint32] = lit.astype(np.uint8).view(np.uint32).ravel()
    return packed


def develop(image: NDArray[np.uint8], exposure: Exposure, grains: list[NDArray[np.int16]]) -> NDArray[np.uint8]:
    """Return the half image as the sensor gives it: blurred, exposed, with grain."""
    if exposure.blur:
        image = np.asarray(cv2.GaussianBlur(image, (5, 5), exposure.blur), np.uint8)
    image = np.asarray(cv2.LUT(image, exposure.curve), np.uint8)
    if exposure.grain:
        top, left = exposure.offset
        field: Any = grains[exposure.grain][top : top + image.shape[0], left : left + image.shape[1]]
        image = np.asarray(cv2.add(image, field, dtype=cv2.CV_8U), np.uint8)
    return np.maximum(image, LEAST)
