"""The synthetic subjects' skeleton (mixamorig joints) and each subject's proportions.

The rest pose is a T-pose: y up, facing +z, left along +x; lengths are fractions of the body height.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PREFIX: Final = "mixamorig:"
SIDES: Final = (("Left", 1), ("Right", -1))
"""Each side with the sign of its x."""

Offset = tuple[float, float, float]

_FINGERS: Final = {
    # root of the finger in the hand, direction of the finger, length of a phalanx
    "Thumb": ((0.012, -0.008, 0.014), (0.6, -0.2, 0.77), 0.019),
    "Index": ((0.055, 0.0, 0.016), (1.0, 0.0, 0.05), 0.0165),
    "Middle": ((0.056, 0.0, 0.005), (1.0, 0.0, 0.0), 0.018),
    "Ring": ((0.054, 0.0, -0.006), (1.0, 0.0, -0.03), 0.0165),
    "Pinky": ((0.050, 0.0, -0.016), (1.0, 0.0, -0.08), 0.0135),
}

# joint, its parent, offset from the parent on the left side
_ARM: Final[list[tuple[str, str, Offset]]] = [
    ("Shoulder", "Spine2", (0.030, 0.085, 0.0)),
    ("Arm", "Shoulder", (0.076, 0.0, 0.022)),
    ("ForeArm", "Arm", (0.160, 0.0, 0.0)),
    ("Hand", "ForeArm", (0.145, 0.0, 0.0)),
]
for _finger, (_root, (_x, _y, _z), _length) in _FINGERS.items():
    _ARM.append((f"Hand{_finger}1", "Hand", _root))
    _phalanx = (_length * _x, _length * _y, _length * _z)
    _ARM.extend((f"Hand{_finger}{number}", f"Hand{_finger}{number - 1}", _phalanx) for number in (2, 3, 4))
_LEG: Final[list[tuple[str, str, Offset]]] = [
    ("UpLeg", "Hips", (0.045, -0.025, 0.0)),
    ("Leg", "UpLeg", (0.0, -0.240, 0.0)),
    ("Foot", "Leg", (0.0, -0.225, 0.0)),
    ("ToeBase", "Foot", (0.0, -0.028, 0.075)),
    ("Toe_End", "ToeBase", (0.0, 0.0, 0.040)),
]

_TABLE: Final[list[tuple[str, str, Offset]]] = [
    ("Hips", "", (0.0, 0.530, 0.0)),
    ("Spine", "Hips", (0.0, 0.055, 0.0)),
    ("Spine1", "Spine", (0.0, 0.065, 0.0)),
    ("Spine2", "Spine1", (0.0, 0.070, 0.0)),
    ("Neck", "Spine2", (0.0, 0.100, 0.002)),
    ("Head", "Neck", (0.0, 0.045, 0.016)),
    ("HeadTop_End", "Head", (0.0, 0.130, 0.0)),
    ("LeftEye", "Head", (0.019, 0.045, 0.045)),
    ("RightEye", "Head", (-0.019, 0.045, 0.045)),
    *(
        (side + name, parent if parent in ("Spine2", "Hips") else side + parent, (sign * x, y, z))
        for part in (_ARM, _LEG)
        for side, sign in SIDES
        for name, parent, (x, y, z) in part
    ),
]

NAMES: Final = tuple(name for name, _, _ in _TABLE)
"""The joints in the order of a frame's JSON, without ``mixamorig:``; a parent comes before its children."""

INDEX: Final = {name: index for index, name in enumerate(NAMES)}
"""Index of a joint in `NAMES`."""

PARENTS: Final = tuple(INDEX.get(parent, -1) for _, parent, _ in _TABLE)
"""Index of each joint's parent, -1 for the hips."""


def random_stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Return a random generator that depends on the seed and the keys alone."""
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng([seed, *words])


@dataclass(frozen=True)
class Physique:
    """A subject's proportions."""

    height: float
    """Body height (cm)."""
    girth: float
    """Thickness of torso, arms and legs; 1 is the average."""
    offsets: NDArray[np.float64]
    """(J, 3), each joint in its parent's frame in the rest pose (cm)."""

    @property
    def arm(self) -> float:
        """Length of the stretched arm, shoulder to wrist (cm)."""
        return self.bone("LeftForeArm") + self.bone("LeftHand")

    @property
    def leg(self) -> float:
        """Length of the stretched leg, hip to ankle (cm)."""
        return self.bone("LeftLeg") + self.bone("LeftFoot")

    @property
    def standing_hips(self) -> float:
        """Height of the hips above the floor when standing with slightly bent knees (cm)."""
        return float(0.99 * self.leg + self.ankle - self.offsets[INDEX["LeftUpLeg"], 1])

    @property
    def ankle(self) -> float:
        """Height of the ankle above the floor (cm): the toe joint's drop and the sole."""
        return float(-self.offsets[INDEX["LeftToeBase"], 1] + 0.018 * self.height)

    def bone(self, name: str) -> float:
        """Return the distance of a joint from its parent (cm)."""
        return float(np.linalg.norm(self.offsets[INDEX[name]]))


def draw_physique(subject: str, seed: int) -> Physique:
    """Draw the proportions of a subject. Its name gives gender, build (f: stout) and height (s: short)."""
    gender, _, build, stature = subject.split("_")
    random = random_stream(seed, subject, "physique")
    height = random.uniform(150, 161) if stature == "s" else random.uniform(157, 176)
    height += 7.0 if gender == "male" else 0.0
    offsets = np.array([offset for _, _, offset in _TABLE]) * height
    scales = {
        "ForeArm": random.uniform(0.95, 1.06),
        "Hand": random.uniform(0.95, 1.06),
        "Leg": random.uniform(0.95, 1.05),
        "Foot": random.uniform(0.95, 1.05),
        "Arm": random.uniform(0.95, 1.08) + (0.08 if gender == "male" else 0.0),
        "UpLeg": random.uniform(0.95, 1.1),
    }
    for part, scale in scales.items():
        for side in ("Left", "Right"):
            offsets[INDEX[side + part]] *= scale
    return Physique(
        height=height,
        girth=random.uniform(1.12, 1.3) if build == "f" else random.uniform(0.9, 1.06),
        offsets=offsets,
    )
