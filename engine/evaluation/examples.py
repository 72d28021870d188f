"""Frames worth looking at: the best, the median and the worst ones, with their images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.metrics import FrameErrors
from engine.evaluation.predictions import Predictions
from loaders import InputError, ShardSet
from loaders.codecs import Image, decode_stored
from loaders.format.sample import JSON
from loaders.format.shard_set import image_data
from loaders.preprocessing import cut_window, resize
from models.camera import Camera
from models.skeleton import Skeleton
from models.xr_egopose import world_to_camera

Points = NDArray[np.floating[Any]]

KINDS: Final = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """One frame."""

    kind: str
    """best, median or worst."""
    error: float
    unit: str
    """Unit of ``error``: mm or px."""
    key: str
    """The sample's key: subject, environment, frame."""
    action: str
    image: Image | None
    """(S, S, 3) RGB; None if the shard set has no images."""
    predicted_2d: Points
    """Pixels of ``image``: (J, 2), a pose that the camera projects, or (K, 2), the heatmaps' peaks."""
    true_2d: Points
    """Likewise."""
    predicted_3d: Points | None
    """(J, 3), metres relative to the root, camera frame; None if the network predicts no pose."""
    true_3d: Points
    """(J, 3), metres relative to the root, camera frame."""
    skeleton: Skeleton
    vertical: Points
    """(3,): the unit vector that points up, camera frame."""

    @property
    def label(self) -> str:
        """Kind and error."""
        return f"{self.kind} {self.error:.1f} {self.unit}"


def collect_examples(
    shard_set: ShardSet, predictions: Predictions, errors: FrameErrors, *, image_size: int, count: int
) -> list[Example]:
    """Return ``count`` frames of each kind, fewer in a small split, with images of the network's ``image_size``.

    Raises InputError for an image that cannot be decoded.
    """
    camera = shard_set.seen_camera(image_size)
    standing = predictions.true_3d.mean(0)
    examples = []
    for kind, row in choose(errors.ranked, predictions.meta[:, [0, 3]], count):
        index = int(predictions.index[row])
        true_2d: Points = predictions.true_2d[row]
        if predictions.joints_3d is not None:
            true_2d = shard_set.camera.transfer(shard_set.pose([index])[0, :, :2], camera)
        examples.append(
            Example(
                kind=kind,
                error=float(errors.ranked[row]),
                unit=errors.unit,
                key=shard_set.key(index),
                action=shard_set.manifest.actions[predictions.meta[row, 3]],
                image=stored_image(shard_set, index, image_size),
                predicted_2d=predicted_positions(shard_set, predictions, row, camera),
                true_2d=true_2d,
                predicted_3d=None if predictions.joints_3d is None else predictions.joints_3d[row],
                true_3d=predictions.true_3d[row],
                skeleton=errors.skeleton,
                vertical=_vertical(shard_set, index, standing),
            )
        )
    return examples


def predicted_positions(shard_set: ShardSet, predictions: Predictions, row: int, camera: Camera) -> Points:
    """Return where a network sees the joints of a frame.

    A pose is placed at the true root and projected: (J, 2). Without one it is the heatmaps' peaks: (K, 2).

    Args:
        shard_set: the split.
        predictions: for it.
        row: of ``predictions``.
        camera: of the network's images, whose pixels are returned.
    """
    if predictions.joints_3d is not None:
        root = shard_set.pose([int(predictions.index[row])])[0, shard_set.manifest.skeleton.root, 2:]
        return camera.project(predictions.joints_3d[row] + root)
    assert predictions.joints_2d is not None
    return np.asarray(predictions.joints_2d[row])


def choose(per_frame: NDArray[np.float64], recording: NDArray[np.int32], count: int) -> list[tuple[str, int]]:
    """Return (kind, index) of the frames to show.

    Neighboring frames of a recording look alike, so each kind shows as many recordings as it can.

    Args:
        per_frame: (n,), errors.
        recording: (n, k), what tells recordings apart.
        count: frames of each kind.
    """
    frames = len(per_frame)
    count = max(1, min(count, frames // len(KINDS)))
    ranked = np.argsort(per_frame, kind="stable")
    from_middle = np.argsort(np.abs(np.arange(frames) - (frames - 1) / 2), kind="stable")
    orders = {"best": ranked, "median": ranked[from_middle], "worst": ranked[::-1]}
    return [(kind, index) for kind in KINDS for index in _varied(orders[kind], recording, count)]


def _varied(order: NDArray[np.int64], recording: NDArray[np.int32], count: int) -> list[int]:
    """Return the first ``count`` of ``order`` that are of different recordings, filled up with the first others."""
    _, first = np.unique(recording[order], axis=0, return_index=True)
    chosen = np.sort(first)[:count]
    others = np.setdiff1d(np.arange(len(order)), chosen)
    varied: list[int] = order[np.concatenate([chosen, others])[:count]].tolist()
    return varied


def stored_image(shard_set: ShardSet, index: int, size: int) -> Image | None:
    """Return a stored image as a network sees it: the center square, resized; None if the shard set has none.

    Raises InputError for an image that cannot be decoded.
    """
    member = shard_set.manifest.image_member
    if member is None:
        return None
    stored: NDArray[Any] = image_data(shard_set, [index], member)[0]
    if stored.ndim == 1:
        try:
            stored = decode_stored(
                stored, member, np.empty((shard_set.camera.height, shard_set.camera.width, 3), np.uint8)
            )
        except ValueError as error:
            raise InputError(
                f"{shard_set.describe(index, member)} cannot be decoded ({error}): copy the shard again, or run "
                "tools.verify --deep to find all such samples"
            ) from None
    return resize(cut_window(stored, shard_set.window), size)


def _vertical(shard_set: ShardSet, index: int, standing: Points) -> Points:
    """Return which way is up in a frame: by xR-EgoPose's JSON, else as the mean pose (J, 3) stands.

    That is from the ends of its lower body to its upper body; towards a camera on the head if it has no such halves.
    """
    if JSON in shard_set.members:
        try:
            # integers may be too long for Python and for a float
            camera = json.loads(shard_set.member(index, JSON).tobytes(), parse_int=float)["camera"]
            rotation = world_to_camera(np.array(camera["trans"], float), np.array(camera["rot"], float))[:3, :3]
        except (ValueError, KeyError, TypeError, RecursionError):
            rotation = np.full((3, 3), np.nan)  # the frame's JSON is only required to hold labels
        if np.isfinite(rotation).all():
            return np.asarray(rotation @ [0.0, 1.0, 0.0])
    skeleton = shard_set.manifest.skeleton
    feet = [joint for joint in skeleton.lower_body if joint not in skeleton.parents]
    if not (feet and skeleton.upper_body):
        return np.array([0.0, 0.0, -1.0])
    up = standing[list(skeleton.upper_body)].mean(0) - standing[feet].mean(0)
    return np.asarray(up / np.linalg.norm(up))
