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

_FINGERS: Final = {
    # root of the finger in the hand, direction of the finger, length of a phalanx
    "Thumb": ((0.012, -0.008, 0.014), (0.6, -0.2, 0.77), 0.019),
    "Index": ((0.055, 0.0, 0.016), (1.0, 0.0, 0.05), 0.0165),
    "Middle": ((0.056, 0.0, 0.005), (1.0, 0.0, 0.0), 0.018),
    "Ring": ((0.054, 0.0, -0.006), (1.0, 0.0, -0.03), 0.0165),
    "Pinky": ((0.050, 0.0, -0.016), (1.0, 0.0, -0.08), 0.0135),
}

Offset = tuple[float, float, float]


def _hand(side: str, sign: int) -> list[tuple[str, str, Offset]]:
    joints = []
    for finger, (root, direction, length) in _FINGERS.items():
        for phalanx in range(1, 5):
            x, y, z = root if phalanx == 1 else (length * part for part in direction)
            parent = f"{side}Hand" if phalanx == 1 else f"{side}Hand{finger}{phalanx - 1}"
            joints.append((f"{side}Hand{finger}{phalanx}", parent, (sign * x, y, z)))
    return joints


def _arm(side: str, sign: int) -> list[tuple[str, str, Offset]]:
    return [
        (f"{side}Shoulder", "Spine2", (sign * 0.030, 0.085, 0.0)),
        (f"{side}Arm", f"{side}Shoulder", (sign * 0.075, 0.0, -0.005)),
        (f"{side}ForeArm", f"{side}Arm", (sign * 0.160, 0.0, 0.0)),
        (f"{side}Hand", f"{side}ForeArm", (sign * 0.145, 0.0, 0.0)),
        *_hand(side, sign),
    ]


def _leg(side: str, sign: int) -> list[tuple[str, str, Offset]]:
    return [
        (f"{side}UpLeg", "Hips", (sign * 0.052, -0.025, 0.0)),
        (f"{side}Leg", f"{side}UpLeg", (0.0, -0.240, 0.0)),
        (f"{side}Foot", f"{side}Leg", (0.0, -0.225, 0.0)),
        (f"{side}ToeBase", f"{side}Foot", (0.0, -0.028, 0.075)),
        (f"{side}Toe_End", f"{side}ToeBase", (0.0, 0.0, 0.040)),
    ]


_TABLE: Final = [
    ("Hips", "", (0.0, 0.530, 0.0)),
    ("Spine", "Hips", (0.0, 0.055, 0.0)),
    ("Spine1", "Spine", (0.0, 0.065, 0.0)),
    ("Spine2", "Spine1", (0.0, 0.070, 0.0)),
    ("Neck", "Spine2", (0.0, 0.100, 0.002)),
    ("Head", "Neck", (0.0, 0.050, 0.016)),
    ("HeadTop_End", "Head", (0.0, 0.130, 0.0)),
    ("LeftEye", "Head", (0.019, 0.045, 0.045)),
    ("RightEye", "Head", (-0.019, 0.045, 0.045)),
    *_arm("Left", 1),
    *_arm("Right", -1),
    *_leg("Left", 1),
    *_leg("Right", -1),
]

NAMES: Final = tuple(name for name, _, _ in _TABLE)
"""The joints in the order of a frame's JSON, without ``mixamorig:``; a parent stands before its children."""

INDEX: Final = {name: index for index, name in enumerate(NAMES)}
"""Place of a joint in `NAMES`."""

PARENTS: Final = tuple(INDEX.get(parent, -1) for _, parent, _ in _TABLE)
"""Place of each joint's parent, -1 for the hips."""


def random_stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Return a generator that depends on the seed and the keys alone, not on what was drawn elsewhere."""
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng([seed, *words])


@dataclass(frozen=True)
class Physique:
    """A subject's proportions."""

    height: float
    """Body height (cm)."""
    girth: float
    """Thickness of body and limbs, 1 for the average."""
    offsets: NDArray[np.float64]
    """(J, 3), each joint in its parent's frame in the rest pose (cm)."""
    camera_offset: NDArray[np.float64]
    """(3,), the camera in the head joint's frame (cm): left, up, forward."""
    camera_tilt: float
    """Angle by which the camera looks ahead of straight down (degrees)."""

    @property
    def arm(self) -> float:
        """Length of the stretched arm, shoulder to wrist (cm)."""
        return self._bone("LeftForeArm") + self._bone("LeftHand")

    @property
    def leg(self) -> float:
        """Length of the stretched leg, hip to ankle (cm)."""
        return self._bone("LeftLeg") + self._bone("LeftFoot")

    @property
    def standing_hips(self) -> float:
        """Height of the hips above the floor when standing with just bent knees (cm)."""
        return float(0.99 * self.leg + self.ankle - self.offsets[INDEX["LeftUpLeg"], 1])

    @property
    def ankle(self) -> float:
        """Height of the ankle above the floor (cm): the toe joint's drop and the sole."""
        return float(-self.offsets[INDEX["LeftToeBase"], 1] + 0.018 * self.height)

    def _bone(self, name: str) -> float:
        return float(np.linalg.norm(self.offsets[INDEX[name]]))


def draw_physique(subject: str, seed: int) -> Physique:
    """Draw the proportions of a subject; its name tells gender, build (f: stout) and height (s: short)."""
    gender, _, build, stature = subject.split("_")
    random = random_stream(seed, subject, "physique")
    height = random.uniform(155, 166) if stature == "s" else random.uniform(163, 183)
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
        camera_offset=np.array(
            [random.uniform(-0.6, 0.6), 0.052 * height + random.uniform(-1, 1), random.uniform(15.0, 18.0)]
        ),
        camera_tilt=random.uniform(-2.0, 4.0),
    )
