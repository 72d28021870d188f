"""The extracted dataset on disk: splits, folders, file names, and one frame's labels.

Files are ``<dataset>/<Set>/<subject>/env_*/cam_down/<modality>/<file>``. The files of one frame have only its number in
common, so modalities are paired by number, never by order.
"""

from __future__ import annotations

import filecmp
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError, printable
from loaders.system.files import is_data
from models.xr_egopose import JOINTS
from tools.sources.opening import LARGEST
from tools.sources.source import FrameError, FrameLabels, Recording

SET_FOLDERS: Final = {"train": "TrainSet", "val": "ValSet", "test": "TestSet"}

# fmt: off
LAST_PARTS: Final[dict[str, dict[str, str]]] = {
    "train": {
        "female_001_a_a": "i", "female_002_a_a": "j", "female_002_f_s": "a", "female_003_a_a": "f",
        "female_005_a_a": "i", "female_006_a_a": "i", "female_007_a_a": "h", "female_009_a_a": "i",
        "female_011_a_a": "f", "female_014_a_a": "f", "female_015_a_a": "j", "male_003_f_s": "a", "male_004_a_a": "i",
        "male_005_a_a": "j", "male_006_f_s": "a", "male_007_a_a": "i", "male_008_f_s": "a", "male_009_a_a": "h",
        "male_010_f_s": "a", "male_011_f_s": "a", "male_014_a_a": "i",
    },
    "val": {"male_008_a_a": "i"},
    "test": {
        "female_004_a_a": "i", "female_008_a_a": "i", "female_010_a_a": "i", "female_012_a_a": "f",
        "female_012_f_s": "a", "male_001_a_a": "i", "male_002_a_a": "j", "male_004_f_s": "a", "male_006_a_a": "i",
        "male_007_f_s": "a", "male_010_a_a": "i", "male_014_f_s": "a",
    },
}
"""The official splits, by subject (gender_id_body-type_height), each with the letter of its last ``.tar.gz.parta?``."""
# fmt: on

SUBJECTS: Final = {split: tuple(subjects) for split, subjects in LAST_PARTS.items()}
"""The official splits, by subject."""

INCOMPLETE: Final = ("female_001_a_a",)
"""Subjects of which the release itself lacks files."""

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
class ReleaseRecording(Recording):
    """A recording of the released dataset, whose ``path`` is the ``cam_down`` folder with a folder per modality.

    Subject and name are those of its folders, as far as they can be printed.
    """

    def file(self, modality: str, frame: int) -> Path:
        """Return the path of a frame's file, whether or not it exists."""
        return self.path / modality / FILE_NAMES[modality].format(subject=self.subject, frame=frame)

    def files(self, modality: str) -> dict[int, Path]:
        """Return one file of each frame by frame number, ascending; empty if the folder does not exist."""
        return {frame: paths[0] for frame, paths in self.all_files(modality).items()}

    def all_files(self, modality: str) -> dict[int, list[Path]]:
        """Return all files of each frame: the release has some names with four digits beside those with six."""
        paths = defaultdict(list)
        for frame, path in sorted(self.numbered(modality)):
            paths[frame].append(path)
        return dict(paths)

    def numbered(self, modality: str) -> Iterator[tuple[int, Path]]:
        """Yield each file of a modality with its frame's number."""
        folder = self.path / modality
        for path in folder.iterdir() if folder.is_dir() else ():
            number = _FRAME_NUMBER.search(path.name)
            if number and is_data(path.name):
                yield int(number[1]), path


def differ(paths: Sequence[Path]) -> bool:
    """Return whether files of one frame have different contents or cannot be compared."""
    try:
        return not all(paths[0].samefile(path) or filecmp.cmp(paths[0], path, shallow=False) for path in paths[1:])
    except OSError:
        return True


def find_recordings(
    dataset: Path, splits: Sequence[str] = tuple(SET_FOLDERS), subjects: Sequence[str] = ()
) -> list[ReleaseRecording]:
    """Return the recordings below ``dataset`` in the order of split, subject, environment.

    ``subjects`` selects some; empty takes all. Raises InputError if the folder or a named subject does not exist, or
    if nothing is found.
    """
    if not dataset.is_dir():
        raise InputError(f"{dataset} is not a folder: give the one that holds {', '.join(SET_FOLDERS.values())}")
    recordings = [
        recording
        for split in splits
        for subject in _folders(dataset / SET_FOLDERS[split])
        if not subjects or printable(subject.name) in subjects
        for recording in recordings_of(subject, split)
    ]
    absent = sorted(set(subjects) - {recording.subject for recording in recordings})
    if absent:
        raise InputError(f"no subject {', '.join(absent)} below {dataset}")
    if not recordings:
        expected = f"{SET_FOLDERS['train']}/<subject>/env_*/cam_down/rgba/*.png"
        raise InputError(f"{dataset} holds no frames: expected {expected}")
    return recordings


def recordings_of(subject: Path, split: str) -> list[ReleaseRecording]:
    """Return the recordings in a subject's folder, wherever that is."""
    return [
        ReleaseRecording(split, printable(subject.name), printable(environment.name), environment / "cam_down")
        for environment in _folders(subject)
        if (environment / "cam_down").is_dir()
    ]


def _folders(folder: Path) -> list[Path]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in inside if is_data(path.name) and path.is_dir())


def read_labels(content: bytes) -> FrameLabels:
    """Read the 16 joints out of one frame's JSON, by name. Raises FrameError with the reason."""
    if not content:
        raise FrameError("json file is empty")
    frame = parse_frame(content)
    try:
        names = [joint["name"] for joint in frame["joints"]]
        action, pixels, centimeters = frame["action"], frame["pts2d_fisheye"], frame["pts3d_fisheye"]
    except KeyError as error:
        raise FrameError(f"no key {error.args[0]}") from None
    except TypeError:
        raise FrameError("joints is not a list of objects") from None
    if not isinstance(action, str) or printable(action) != action:
        raise FrameError("action is no string that can be printed")
    if not all(isinstance(name, str) for name in names):
        raise FrameError("the name of a joint is no string")
    names = [name.removeprefix("mixamorig:") for name in names]
    for name in JOINTS:
        if (count := names.count(name)) != 1:
            raise FrameError(f"joint {name} is there {count} times" if count else f"no joint {name}")
    columns = [names.index(name) for name in JOINTS]
    joints_2d = _points(pixels, "pts2d_fisheye", (2, len(names)), columns)
    joints_3d = _points(centimeters, "pts3d_fisheye", (3, len(names)), columns)
    return FrameLabels(joints_3d / 100, joints_2d, action, frame.get("generated") is True)


def parse_frame(content: bytes) -> dict[str, Any]:
    """Parse one frame's JSON; all its numbers are floats, infinite where they are too large for one.

    Raises FrameError with the reason.
    """
    try:
        # integers may have more digits than Python converts, or be too large for a float
        frame = json.loads(content, parse_int=float, object_pairs_hook=_object)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from None
    if not isinstance(frame, dict):
        raise FrameError("not a JSON object")
    return frame


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise FrameError("a key is there twice, and programs differ in which they take")
    return content


def _points(rows: Any, key: str, shape: tuple[int, int], columns: list[int]) -> NDArray[np.float64]:
    try:
        if not all(value is None or type(value) is float for row in rows for value in row):
            raise TypeError
        table = np.array(rows, np.float64)
    except (TypeError, ValueError):
        raise FrameError(f"{key} is not a table of numbers") from None
    if table.shape != shape:
        raise FrameError(f"{key} has shape {table.shape}, not {shape}")
    points = table[:, columns].T
    if not np.isfinite(points).all():
        raise FrameError(f"{key} lacks values")
    if np.abs(points).max() > LARGEST:
        raise FrameError(f"{key} holds values beyond 32 bits")
    return points
