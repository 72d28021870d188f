"""Plants defects in a generated dataset, including those of the released data, and lists them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from tools.dataset.layout import ReleaseRecording, find_recordings
from tools.synthesis.body import PREFIX

DEFECTS_FILE: Final = "defects.json"

FEWEST_FRAMES: Final = 25
"""Frames that a recording needs for its defects to be in different frames."""

INCOMPLETE: Final = "female_001_a_a"
MISALIGNED: Final = (
    "female_003_a_a",
    "male_003_f_s",
    "male_006_f_s",
    "male_008_f_s",
    "male_010_f_s",
    "male_011_f_s",
)
"""Subjects of the release whose folders hold equally many files, but lack different frames."""

_DAMAGED_BYTES: Final = 64


@dataclass(frozen=True)
class Defect:
    """A planted defect."""

    subject: str
    environment: str
    frame: int
    modality: str
    fault: str
    usable: bool
    """Whether the image and the labels of the frame can still be used."""


def plant(dataset: Path) -> list[Defect]:
    """Plant the defects below ``dataset`` and write the list there.

    Subjects that have defects in the release get the same ones. Single defects are distributed over the recordings.
    Defects of modalities that were not written are skipped.
    """
    recordings = find_recordings(dataset)
    planted: list[Defect] = []
    without: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings):
        if recording.subject == INCOMPLETE:
            planted += _incomplete(recording)
        elif recording.subject in MISALIGNED:
            planted += _misaligned(recording)
        if (recording.path / "rot").is_symlink():
            # it shares the rotations of the subject's first environment
            planted += [_missing(recording, frame, "rot") for frame in without[recording.subject]]
        else:
            # the rotations of every fifth frame stay, or none
            frames = [frame for frame in recording.files("rot") if number % 2 or frame % 5]
            without[recording.subject] = frames
            planted += _remove(recording, "rot", frames)
    planted += _plant_single(recordings, planted)
    content = json.dumps([asdict(defect) for defect in planted], indent=1)
    (dataset / DEFECTS_FILE).write_text(content + "\n", encoding="utf-8")
    return planted


def _remove(recording: ReleaseRecording, modality: str, frames: list[int]) -> list[Defect]:
    defects = []
    for frame in frames:
        path = recording.file(modality, frame)
        if path.exists():
            path.unlink()
            defects.append(_missing(recording, frame, modality))
    return defects


def _missing(recording: ReleaseRecording, frame: int, modality: str) -> Defect:
    usable = modality not in ("rgba", "json")
    return Defect(recording.subject, recording.name, frame, modality, "missing", usable)


def _frames(recording: ReleaseRecording) -> int:
    """Return how many frames were written, in any modality."""
    return max((frame for folder in recording.path.iterdir() for frame in recording.files(folder.name)), default=0)


def _incomplete(recording: ReleaseRecording) -> list[Defect]:
    """Remove the last frames of each modality, a different number of each."""
    frames = _frames(recording)
    share = max(1, frames // 50)
    return [
        defect
        for pieces, modality in enumerate(("json", "rgba", "worldp", "objectId"), start=1)
        for defect in _remove(recording, modality, list(range(frames - pieces * share + 1, frames + 1)))
    ]


def _misaligned(recording: ReleaseRecording) -> list[Defect]:
    """Remove the image of one frame and the labels of another, so that the counts stay equal."""
    frames = _frames(recording)
    return _remove(recording, "rgba", [frames // 3]) + _remove(recording, "json", [2 * frames // 3])


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        labels = json.loads(path.read_bytes())
        change(labels)
        path.write_text(json.dumps(labels, separators=(",", ":")), encoding="utf-8")

    return edit


def _edit_point(key: str, joint: str, change: Callable[[float], float | None]) -> Callable[[Path], None]:
    def edit(labels: dict[str, Any]) -> None:
        row, column = labels[key][0], _column(labels, joint)
        row[column] = change(row[column])

    return _edit(edit)


def _edit_rows(key: str, change: Callable[[list[float]], list[float]]) -> Callable[[Path], None]:
    return _edit(lambda labels: labels.update({key: [change(row) for row in labels[key]]}))


def _drop_joint(labels: dict[str, Any]) -> None:
    """Remove a joint and its points, so that the lengths still agree."""
    column = _column(labels, "LeftFoot")
    for row in (labels["joints"], *labels["pts2d_fisheye"], *labels["pts3d_fisheye"]):
        del row[column]


def _column(labels: dict[str, Any], joint: str) -> int:
    return [entry["name"] for entry in labels["joints"]].index(PREFIX + joint)


def _cut_file(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return cut


def _damage(path: Path) -> None:
    """Overwrite bytes in the middle, which only decoding finds: both ends stay as they were."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + _DAMAGED_BYTES] = bytes(byte ^ 0x55 for byte in content[middle : middle + _DAMAGED_BYTES])
    path.write_bytes(content)


def _halve(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    cv2.imwrite(str(path), image[::2, ::2])


_SINGLE_DEFECTS: Final[tuple[tuple[str, str, Callable[[Path], None], bool], ...]] = (
    # modality, fault, change of the file, whether the frame stays usable
    ("rgba", "truncated", _cut_file(0.6), False),
    ("rgba", "empty", _cut_file(0.0), False),
    ("rgba", "damaged", _damage, False),
    ("rgba", "wrong size", _halve, False),
    ("json", "truncated", _cut_file(0.6), False),
    ("json", "empty", _cut_file(0.0), False),
    ("json", "action missing", _edit(lambda labels: labels.pop("action")), False),
    ("json", "LeftFoot missing", _edit(_drop_joint), False),
    ("json", "pts2d_fisheye null", _edit_point("pts2d_fisheye", "LeftHand", lambda _: None), False),
    ("json", "pts3d_fisheye null", _edit_point("pts3d_fisheye", "RightFoot", lambda _: None), False),
    ("json", "pts3d_fisheye infinite", _edit_point("pts3d_fisheye", "Neck", lambda _: math.inf), False),
    ("json", "pts2d_fisheye column missing", _edit_rows("pts2d_fisheye", lambda row: row[:-1]), False),
    ("json", "pts3d_fisheye column missing", _edit_rows("pts3d_fisheye", lambda row: row[:-1]), False),
    ("json", "pts3d_fisheye empty", _edit_rows("pts3d_fisheye", lambda _: []), False),
    ("json", "pts2d_fisheye off the camera model", _edit_point("pts2d_fisheye", "Head", lambda u: u + 3.0), True),
    ("json", "pts2d_fisheye null in an unused joint", _edit_point("pts2d_fisheye", "LeftEye", lambda _: None), True),
    ("json", "char_height null", _edit(lambda labels: labels.update(char_height=None)), True),
    ("worldp", "missing", Path.unlink, True),
    ("worldp", "truncated", _cut_file(0.6), True),
    ("depth", "missing", Path.unlink, True),
    ("objectId", "missing", Path.unlink, True),
)


def _plant_single(recordings: list[ReleaseRecording], planted: list[Defect]) -> list[Defect]:
    """Plant each single defect in a frame that has no other, except missing rotations."""
    taken = {(defect.subject, defect.environment, defect.frame) for defect in planted if defect.modality != "rot"}
    stride = max(1, len(recordings) // len(_SINGLE_DEFECTS))
    defects = []
    for number, (modality, fault, damage, usable) in enumerate(_SINGLE_DEFECTS):
        recording = recordings[number * stride % len(recordings)]
        free = [frame for frame in recording.files(modality) if (recording.subject, recording.name, frame) not in taken]
        if free:
            frame = free[number * 5 % len(free)]
            damage(recording.file(modality, frame))
            taken.add((recording.subject, recording.name, frame))
            defects.append(Defect(recording.subject, recording.name, frame, modality, fault, usable))
    return defects
