"""Errors of poses, per frame, in float64 on the host."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.skeleton import Skeleton

Floats = NDArray[np.floating[Any]]

PCK_THRESHOLD: Final = 150.0
"""A joint nearer than this to the true one counts as correct (mm)."""
AUC_THRESHOLDS: Final = np.arange(0.0, PCK_THRESHOLD + 1, 5.0)
"""Thresholds over which the area under the PCK curve is averaged (mm).

Both as in Mehta et al., "Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision", 3DV 2017. The
threshold 0 is one of the 31, so that perfect poses have 96.8 %.
"""


def joint_errors(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return (n, J): distance of each joint, in the unit of the poses (n, J, 2 or 3)."""
    return np.asarray(np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1))


def align(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return ``predicted`` (n, J, 3) moved, rotated and scaled onto ``true`` with least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    center_p, center_t = predicted.mean(1, keepdims=True), true.mean(1, keepdims=True)
    p, t = predicted - center_p, true - center_t
    u, singular, vh = np.linalg.svd(t.swapaxes(1, 2) @ p)
    # a reflection is no rotation: the weakest axis is flipped
    sign = np.ones_like(singular)
    sign[:, -1] = np.sign(np.linalg.det(u @ vh))
    rotation = (u * sign[:, None, :]) @ vh
    spread = np.square(p).sum((1, 2))
    scale = np.divide((singular * sign).sum(1), spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(scale[:, None, None] * p @ rotation.swapaxes(1, 2) + center_t)


def rescale(predicted: Floats, true: Floats) -> NDArray[np.float64]:
    """Return poses (n, J, 3), relative to their root, each scaled to ``true`` with least squared error.

    The "N" of N-MPJPE: Rhodin et al., "Unsupervised Geometry-Aware Representation for 3D Human Pose Estimation", ECCV
    2018. A pose without extent stays as it is.
    """
    predicted = np.asarray(predicted, np.float64)
    product, square = (predicted * true).sum((1, 2)), np.square(predicted).sum((1, 2))
    scale = np.divide(product, square, out=np.ones_like(square), where=square > 0)
    return np.asarray(scale[:, None, None] * predicted)


def adjust_bones(poses: Floats, lengths: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return poses (n, J, 3) whose bones point where they did and have the ``lengths`` (J,) of a standard skeleton.

    Joint by joint along the tree, from the root on, which stays where it is; a joint's bone is the one to its parent.
    A bone of length 0 has no direction and stays so.
    """
    poses = np.asarray(poses, np.float64)
    bones, before = poses - poses[:, skeleton.parents], tree_lengths(poses, skeleton)
    adjusted = poses.copy()
    for joint in skeleton.tree_order[1:]:
        length = before[:, joint, None]
        scale = np.divide(lengths[joint], length, out=np.zeros_like(length), where=length > 0)
        adjusted[:, joint] = adjusted[:, skeleton.parents[joint]] + scale * bones[:, joint]
    return np.asarray(adjusted, np.float64)


def tree_lengths(poses: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (n, J): distance of each joint of poses (n, J, 3) from its parent in the tree; the root's is 0."""
    return joint_errors(poses, poses[:, skeleton.parents])


def bone_aligned_errors(predicted: Floats, true: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (n, J): distance of each joint of poses (n, J, 3) once body size and bone lengths no longer matter.

    Both poses get the bones of a standard skeleton, here the mean of all true ones, and one is aligned to the other:
    BA-MPJPE of Wang et al., "Estimating Egocentric 3D Human Pose in Global Space", ICCV 2021.
    """
    standard = tree_lengths(true, skeleton).mean(0)
    resized = adjust_bones(true, standard, skeleton)
    return joint_errors(align(adjust_bones(predicted, standard, skeleton), resized), resized)


def pck(errors_mm: Floats) -> NDArray[np.float64]:
    """Return (n,): share of a frame's joints (n, J) that are correct (%)."""
    return np.asarray(100 * (errors_mm < PCK_THRESHOLD).mean(1))


def auc(errors_mm: Floats) -> NDArray[np.float64]:
    """Return (n,): the same share (%), averaged over `AUC_THRESHOLDS`."""
    missed = np.searchsorted(AUC_THRESHOLDS, errors_mm, side="right")
    return np.asarray(100 * (1 - missed / len(AUC_THRESHOLDS)).mean(1))


def bone_length_errors(predicted: Floats, true: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (n, bones): by how much each bone of the poses (n, J, 3) is too long or too short, in their unit."""
    return np.abs(_lengths(predicted, skeleton) - _lengths(true, skeleton))


def _lengths(poses: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    start, end = np.array(skeleton.bones, int).reshape(-1, 2).T
    return joint_errors(poses[:, start], poses[:, end])
