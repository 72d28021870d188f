"""Plants faults in a generated dataset, those of the released data among them, and lists them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from tools.dataset.layout import Environment, find_environments
from tools.synthesis.png import encode_png

DEFECTS_FILE: Final = "defects.json"

FEWEST_FRAMES: Final = 25
"""Frames a recording must have for its faults to fall on different frames."""

INCOMPLETE: Final = "female_001_a_a"
MISALIGNED: Final = (
    "female_003_a_a",
    "male_003_f_s",
    "male_006_f_s",
    "male_008_f_s",
    "male_010_f_s",
    "male_011_f_s",
)
"""Subjects of the release whose folders have equal counts but lack different frames."""

_DAMAGED_BYTES: Final = 64


@dataclass(frozen=True)
class Defect:
    """A planted fault."""

    subject: str
    environment: str
    frame: int
    modality: str
    fault: str
    usable: bool
    """Whether image and labels of the frame can still be used, whatever became of the other modalities."""


def plant(root: Path) -> list[Defect]:
    """Plant the faults below ``root`` and write the list beside them.

    The released subjects get their own faults. Single faults go round the recordings. A fault of a modality that was
    not written is left out.
    """
    environments = find_environments(root)
    planted: list[Defect] = []
    without: dict[str, list[int]] = {}
    for number, environment in enumerate(environments):
        if environment.subject == INCOMPLETE:
            planted += _incomplete(environment)
        elif environment.subject in MISALIGNED:
            planted += _misaligned(environment)
        if (environment.path / "rot").is_symlink():
            # its rotations are those of the subject's first environment
            planted += [_defect(environment, frame, "rot", "missing", True) for frame in without[environment.subject]]
        else:
            rotations = _sporadic_rotations(environment, number)
            without[environment.subject] = [defect.frame for defect in rotations]
            planted += rotations
    planted += _single_faults(environments, planted)
    content = json.dumps([asdict(defect) for defect in planted], indent=1)
    (root / DEFECTS_FILE).write_text(content + "\n", encoding="utf-8")
    return planted


def _remove(environment: Environment, modality: str, frames: list[int]) -> list[Defect]:
    defects = []
    for frame in frames:
        path = environment.file(modality, frame)
        if path.exists():
            path.unlink()
            defects.append(_defect(environment, frame, modality, "missing", modality not in ("rgba", "json")))
    return defects


def _defect(environment: Environment, frame: int, modality: str, fault: str, usable: bool) -> Defect:
    return Defect(environment.subject, environment.name, frame, modality, fault, usable)


def _frames(environment: Environment) -> int:
    """Return how many frames were written, whatever the modalities."""
    return max((frame for folder in environment.path.iterdir() for frame in environment.files(folder.name)), default=0)


def _incomplete(environment: Environment) -> list[Defect]:
    """Cut the end of each modality, by different lengths."""
    frames = _frames(environment)
    share = max(1, frames // 50)
    return [
        defect
        for pieces, modality in enumerate(("json", "rgba", "worldp", "objectId"), start=1)
        for defect in _remove(environment, modality, list(range(frames - pieces * share + 1, frames + 1)))
    ]


def _misaligned(environment: Environment) -> list[Defect]:
    """Remove one image and another frame's labels: the counts stay equal."""
    frames = _frames(environment)
    return _remove(environment, "rgba", [frames // 3]) + _remove(environment, "json", [2 * frames // 3])


def _sporadic_rotations(environment: Environment, number: int) -> list[Defect]:
    """Keep every fifth frame's rotations, or none at all."""
    frames = environment.files("rot")
    return _remove(environment, "rot", [frame for frame in frames if number % 2 or frame % 5])


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        labels = json.loads(path.read_bytes())
        change(labels)
        path.write_text(json.dumps(labels, separators=(",", ":")), encoding="utf-8")

    return edit


def _set_point(key: str, joint: str, value: float | None) -> Callable[[Path], None]:
    return _edit(lambda labels: labels[key][0].__setitem__(_column(labels, joint), value))


def _shift_point(key: str, joint: str, distance: float) -> Callable[[Path], None]:
    def change(labels: dict[str, Any]) -> None:
        labels[key][0][_column(labels, joint)] += distance

    return _edit(change)


def _drop_joint(joint: str) -> Callable[[Path], None]:
    """Remove a joint and its points, so that the lengths still agree."""

    def change(labels: dict[str, Any]) -> None:
        column = _column(labels, joint)
        for row in (labels["joints"], *labels["pts2d_fisheye"], *labels["pts3d_fisheye"]):
            del row[column]

    return _edit(change)


def _column(labels: dict[str, Any], joint: str) -> int:
    return [entry["name"] for entry in labels["joints"]].index(f"mixamorig:{joint}")


def _drop_column(key: str) -> Callable[[Path], None]:
    return _edit(lambda labels: labels.update({key: [row[:-1] for row in labels[key]]}))


def _empty_points(key: str) -> Callable[[Path], None]:
    return _edit(lambda labels: labels.update({key: [[] for _ in labels[key]]}))


def _cut_file(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return cut


def _damage(path: Path) -> None:
    """Overwrite bytes in the middle: both ends stay as they were, only decoding tells."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + _DAMAGED_BYTES] = bytes(byte ^ 0x55 for byte in content[middle : middle + _DAMAGED_BYTES])
    path.write_bytes(content)


def _halve(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    path.write_bytes(encode_png(image[::2, ::2]))


# modality, fault, what it does to the file, whether the frame stays usable
_SINGLE_FAULTS: Final[tuple[tuple[str, str, Callable[[Path], None], bool], ...]] = (
    ("rgba", "truncated", _cut_file(0.6), False),
    ("rgba", "empty", _cut_file(0.0), False),
    ("rgba", "damaged", _damage, False),
    ("rgba", "wrong size", _halve, False),
    ("json", "truncated", _cut_file(0.6), False),
    ("json", "empty", _cut_file(0.0), False),
    ("json", "action missing", _edit(lambda labels: labels.pop("action")), False),
    ("json", "LeftFoot missing", _drop_joint("LeftFoot"), False),
    ("json", "pts2d_fisheye null", _set_point("pts2d_fisheye", "LeftHand", None), False),
    ("json", "pts3d_fisheye null", _set_point("pts3d_fisheye", "RightFoot", None), False),
    ("json", "pts3d_fisheye infinite", _set_point("pts3d_fisheye", "Neck", math.inf), False),
    ("json", "pts2d_fisheye column missing", _drop_column("pts2d_fisheye"), False),
    ("json", "pts3d_fisheye column missing", _drop_column("pts3d_fisheye"), False),
    ("json", "pts3d_fisheye empty", _empty_points("pts3d_fisheye"), False),
    ("json", "pts2d_fisheye off the camera model", _shift_point("pts2d_fisheye", "Head", 3.0), True),
    ("json", "pts2d_fisheye null in an unused joint", _set_point("pts2d_fisheye", "LeftEye", None), True),
    ("json", "char_height null", _edit(lambda labels: labels.update(char_height=None)), True),
    ("worldp", "missing", Path.unlink, True),
    ("worldp", "truncated", _cut_file(0.6), True),
    ("depth", "missing", Path.unlink, True),
    ("objectId", "missing", Path.unlink, True),
)


def _single_faults(environments: list[Environment], planted: list[Defect]) -> list[Defect]:
    """Plant each fault in a frame that has no other but lacking rotations."""
    taken = {(defect.subject, defect.environment, defect.frame) for defect in planted if defect.modality != "rot"}
    stride = max(1, len(environments) // len(_SINGLE_FAULTS))
    defects = []
    for number, (modality, fault, spoil, usable) in enumerate(_SINGLE_FAULTS):
        environment = environments[number * stride % len(environments)]
        free = [
            frame
            for frame in environment.files(modality)
            if (environment.subject, environment.name, frame) not in taken
        ]
        if free:
            frame = free[number * 5 % len(free)]
            spoil(environment.file(modality, frame))
            taken.add((environment.subject, environment.name, frame))
            defects.append(_defect(environment, frame, modality, fault, usable))
    return defects
