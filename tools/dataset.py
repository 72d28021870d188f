"""The extracted dataset on disk: splits, folders, file names, and one frame's labels.

``<root>/<Set>/<subject>/env_*/cam_down/<modality>/<file>``; files of one frame share its number and nothing else,
so modalities are paired by number, never by position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from models.skeleton import JOINTS

SET_FOLDERS: Final = {"train": "TrainSet", "val": "ValSet", "test": "TestSet"}

SUBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "train": (
        "female_001_a_a",
        "female_002_a_a",
        "female_002_f_s",
        "female_003_a_a",
        "female_005_a_a",
        "female_006_a_a",
        "female_007_a_a",
        "female_009_a_a",
        "female_011_a_a",
        "female_014_a_a",
        "female_015_a_a",
        "male_003_f_s",
        "male_004_a_a",
        "male_005_a_a",
        "male_006_f_s",
        "male_007_a_a",
        "male_008_f_s",
        "male_009_a_a",
        "male_010_f_s",
        "male_011_f_s",
        "male_014_a_a",
    ),
    "val": ("male_008_a_a",),
    "test": (
        "female_004_a_a",
        "female_008_a_a",
        "female_010_a_a",
        "female_012_a_a",
        "female_012_f_s",
        "male_001_a_a",
        "male_002_a_a",
        "male_004_f_s",
        "male_006_a_a",
        "male_007_f_s",
        "male_010_a_a",
        "male_014_f_s",
    ),
}
"""The official splits, by subject (gender_id_body-type_height)."""

FILE_NAMES: Final = {
    "rgba": "{subject}.rgba.{frame:06d}.png",
    "json": "{subject}_{frame:06d}.json",
    "worldp": "{subject}.worldp.{frame:06d}.png",
    "depth": "{subject}.depth.{frame:06d}.png",
    "objectId": "{subject}.objectId.{frame:06d}.png",
    "rot": "{subject}_{frame:06d}.json",
}
"""File name of a frame in each modality's folder; frames count from 1."""

_FRAME_NUMBER = re.compile(r"(\d+)\.[A-Za-z]+$")


@dataclass(frozen=True)
class Environment:
    """One recording: a subject in one environment."""

    split: str
    subject: str
    name: str
    path: Path
    """The ``cam_down`` folder, which holds a folder per modality."""

    def file(self, modality: str, frame: int) -> Path:
        """Return the path a frame's file has, whether or not it exists."""
        return self.path / modality / FILE_NAMES[modality].format(subject=self.subject, frame=frame)

    def files(self, modality: str) -> dict[int, Path]:
        """Return the files of a modality by frame number, ascending; empty if the folder is absent.

        Raises InputError if two files carry the same number.
        """
        found: dict[int, Path] = {}
        folder = self.path / modality
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            number = _FRAME_NUMBER.search(path.name)
            if number is None:
                continue
            frame = int(number[1])
            if frame in found:
                raise InputError(f"{path} and {found[frame].name} are both frame {frame}: remove one")
            found[frame] = path
        return dict(sorted(found.items()))


def find_environments(
    root: Path, splits: Sequence[str] = tuple(SET_FOLDERS), subjects: Sequence[str] = ()
) -> list[Environment]:
    """Return the recordings below ``root`` in the order of split, subject, environment.

    ``subjects`` narrows the search; empty takes all. Raises InputError if the folder or a named subject is absent,
    or if nothing is found.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the one that holds {', '.join(SET_FOLDERS.values())}")
    found = [
        environment
        for split in splits
        for environment in _environments_of(root / SET_FOLDERS[split], split)
        if not subjects or environment.subject in subjects
    ]
    absent = sorted(set(subjects) - {environment.subject for environment in found})
    if absent:
        raise InputError(f"no subject {', '.join(absent)} below {root}")
    if not found:
        raise InputError(f"{root} holds no frames: expected {SET_FOLDERS['train']}/<subject>/env_*/cam_down/rgba/*.png")
    return found


def _environments_of(folder: Path, split: str) -> Iterator[Environment]:
    for path in sorted(folder.glob("*/*/cam_down")):
        if path.is_dir():
            yield Environment(split, path.parts[-3], path.parts[-2], path)


class LabelError(ValueError):
    """A frame's JSON cannot serve as a label; the message is the reason."""


@dataclass(frozen=True)
class FrameLabels:
    """What training needs of one frame's JSON."""

    action: str
    joints_2d: NDArray[np.float64]
    """(16, 2), pixels of the 1280x800 picture."""
    joints_3d: NDArray[np.float64]
    """(16, 3), metres, camera frame."""


def read_labels(content: bytes) -> FrameLabels:
    """Read the 16 joints out of one frame's JSON, by name. Raises LabelError with the reason."""
    try:
        frame = json.loads(content)
    except ValueError as error:
        raise LabelError(f"not JSON: {error}") from None
    if not isinstance(frame, dict):
        raise LabelError("not a JSON object")
    try:
        names = [str(joint["name"]).removeprefix("mixamorig:") for joint in frame["joints"]]
        action, pixels, centimetres = str(frame["action"]), frame["pts2d_fisheye"], frame["pts3d_fisheye"]
    except KeyError as error:
        raise LabelError(f"no key {error.args[0]}") from None
    except TypeError:
        raise LabelError("joints is not a list of objects") from None
    absent = [name for name in JOINTS if name not in names]
    if absent:
        raise LabelError(f"no joint {absent[0]}")
    columns = [names.index(name) for name in JOINTS]
    return FrameLabels(
        action,
        _points(pixels, "pts2d_fisheye", 2, columns, len(names)),
        _points(centimetres, "pts3d_fisheye", 3, columns, len(names)) / 100,
    )


def _points(rows: Any, key: str, dimensions: int, columns: list[int], joints: int) -> NDArray[np.float64]:
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError):
        raise LabelError(f"{key} is not a table of numbers") from None
    if table.shape != (dimensions, joints):
        raise LabelError(f"{key} has shape {table.shape}, not ({dimensions}, {joints})")
    points = table[:, columns].T
    if not np.isfinite(points).all():
        raise LabelError(f"{key} lacks values")
    return points
