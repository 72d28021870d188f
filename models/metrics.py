"""Errors of poses, per frame, in float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def joint_errors(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return (n, J): distance of each joint, in the unit of the poses (n, J, 2 or 3)."""
    return np.asarray(np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1))


def align(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return ``predicted`` (n, J, 3) moved, turned and scaled onto ``true`` with least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    centre_p, centre_t = predicted.mean(1, keepdims=True), true.mean(1, keepdims=True)
    p, t = predicted - centre_p, true - centre_t
    u, singular, vh = np.linalg.svd(t.swapaxes(1, 2) @ p)
    # a reflection is no rotation: the weakest axis is turned back
    sign = np.ones_like(singular)
    sign[:, -1] = np.sign(np.linalg.det(u @ vh))
    rotation = (u * sign[:, None, :]) @ vh
    spread = np.square(p).sum((1, 2))
    scale = np.divide((singular * sign).sum(1), spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(scale[:, None, None] * p @ rotation.swapaxes(1, 2) + centre_t)


def pa_joint_errors(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return (n, J): distance of each joint after Procrustes alignment."""
    return joint_errors(align(predicted, true), true)
