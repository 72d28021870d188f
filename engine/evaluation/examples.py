"""Frames worth looking at: the best, the median and the worst ones, with their images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.frame_errors import FrameErrors
from engine.evaluation.predictions import Predictions
from loaders import DataConfig, PoseBatch, ReaderConfig, ShardSet, build_loader
from loaders.format.manifest import Manifest
from loaders.format.sample import JSON
from models.camera import world_to_camera
from models.skeleton import JOINTS, NECK

Points = NDArray[np.floating[Any]]

KINDS: Final = ("best", "median", "worst")

_FEET: Final = tuple(i for i, name in enumerate(JOINTS) if name.endswith(("Foot", "ToeBase")))


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
    image: NDArray[np.uint8] | None
    """(S, S, 3) RGB; None if the shard set has no images."""
    predicted_2d: Points
    """(J, 2), pixels of ``image``; a pose is projected by the camera, J = 16; otherwise the heatmaps' peaks, J = 15."""
    true_2d: Points
    """(J, 2), pixels of ``image``."""
    predicted_3d: Points | None
    """(16, 3), metres relative to Neck, camera frame; None if the network predicts no pose."""
    true_3d: Points
    """(16, 3), metres relative to Neck, camera frame."""
    vertical: Points
    """(3,): the unit vector that points up, camera frame."""

    @property
    def label(self) -> str:
        """Kind and error."""
        return f"{self.kind} {self.error:.1f} {self.unit}"


def collect_examples(
    data: ReaderConfig,
    split: str,
    found: Predictions,
    errors: FrameErrors,
    meta: NDArray[np.int32],
    *,
    image_size: int,
    count: int,
) -> list[Example]:
    """Return ``count`` frames of each kind, fewer in a small split; their images are loaded one by one.

    ``meta`` (n, 4) is that of the frames in ``found``.
    """
    # OpenCV needs no warming up for a few images
    one_by_one = DataConfig(
        shards=data.shards, batch_size=1, prefetch=1, threads=1, backend="torch", image_size=image_size
    )
    loader = build_loader(one_by_one, split, outputs=("image",) if Manifest.read(data.shards).image_member else ())
    shard_set = loader.shard_set
    standing = found.true_3d.mean(0)
    examples = []
    for kind, row in choose(errors.ranked, meta[:, [0, 3]], count):
        index = int(found.frames[row])
        # a loader's cursor goes to any sample
        loader.load_state_dict({**loader.state_dict(), "consumed": index})
        batch = next(iter(loader))
        predicted_3d = None if found.joints_3d is None else found.joints_3d[row]
        if predicted_3d is not None:
            neck = shard_set.pose([index])[0, NECK, 2:]
            predicted_2d, true_2d = loader.camera.project(predicted_3d + neck), batch.joints_2d[0].numpy()
        else:
            assert found.joints_2d is not None
            predicted_2d, true_2d = found.joints_2d[row], found.true_2d[row]
        examples.append(
            Example(
                kind=kind,
                error=float(errors.ranked[row]),
                unit=errors.unit,
                key=shard_set.key(index),
                action=shard_set.manifest.actions[meta[row, 3]],
                image=_image(batch),
                predicted_2d=predicted_2d,
                true_2d=true_2d,
                predicted_3d=predicted_3d,
                true_3d=found.true_3d[row],
                vertical=_vertical(shard_set, index, standing),
            )
        )
    loader.close()
    return examples


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
    chosen: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for index in order:
        place = tuple(recording[index].tolist())
        if place not in seen:
            seen.add(place)
            chosen.append(int(index))
        if len(chosen) == count:
            return chosen
    others = [int(index) for index in order[: 2 * count] if int(index) not in chosen]
    return [*chosen, *others[: count - len(chosen)]]


def _image(batch: PoseBatch) -> NDArray[np.uint8] | None:
    return None if batch.image is None else np.ascontiguousarray(batch.image[0].permute(1, 2, 0).numpy())


def _vertical(shard_set: ShardSet, index: int, standing: Points) -> Points:
    """Return which way is up in a frame: as its JSON says, else from the feet of the mean pose to its neck."""
    if JSON in shard_set.members:
        try:
            # integers may be too long for Python and for a float
            camera = json.loads(shard_set.member(index, JSON).tobytes(), parse_int=float)["camera"]
            rotation = world_to_camera(np.array(camera["trans"], float), np.array(camera["rot"], float))[:3, :3]
        except (ValueError, KeyError, TypeError, RecursionError):
            rotation = np.full((3, 3), np.nan)  # the frame's JSON is only required to hold labels
        if np.isfinite(rotation).all():
            return np.asarray(rotation @ [0.0, 1.0, 0.0])
    up = standing[NECK] - standing[list(_FEET)].mean(0)
    return np.asarray(up / np.linalg.norm(up))
