"""How a subject looks: the rounded cones that make up its body, and the colors of skin and clothes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import INDEX, NAMES, SIDES, Offset, Physique, random_stream

SKIN, SHIRT, TROUSERS, SHOES, HAIR, SLEEVE, SHIN = range(7)
"""Materials; sleeve and shin are clothed or bare, depending on the subject."""

_SKINS: Final = ((198, 222, 250), (160, 192, 236), (124, 160, 214), (90, 126, 180), (62, 88, 138), (44, 62, 98))
_SHIRTS: Final = (
    (60, 60, 205), (190, 90, 30), (70, 160, 60), (40, 190, 235), (205, 210, 210), (150, 60, 120),
    (160, 150, 30), (40, 110, 230), (110, 40, 60), (230, 190, 120), (60, 55, 50), (140, 120, 240),
    (90, 190, 150), (200, 150, 60),
)  # fmt: skip
_TROUSERS: Final = (
    (120, 70, 40), (60, 50, 45), (150, 120, 80), (90, 150, 175), (110, 110, 110), (45, 75, 60), (60, 60, 110),
    (190, 175, 160),
)  # fmt: skip
_SHOES: Final = ((235, 235, 235), (30, 30, 200), (25, 25, 28), (30, 120, 240), (200, 120, 30), (60, 190, 120))
_HAIRS: Final = ((30, 34, 40), (40, 66, 110), (90, 150, 190), (60, 60, 62))


@dataclass(frozen=True)
class Solid:
    """A rounded cone between two points, each given in the frame of a joint."""

    start: str
    end: str
    radius: float
    """At the start (fraction of the body height)."""
    end_radius: float
    """At the end (fraction of the body height)."""
    material: int
    start_offset: Offset = (0.0, 0.0, 0.0)
    """From the joint, in its frame (fractions of the body height)."""
    end_offset: Offset = (0.0, 0.0, 0.0)


_TORSO: Final = (  # bars from right to left, because a torso is wider than deep: half width, radius, height, depth
    ("Spine2", SHIRT, 0.052, 0.054, 0.035, 0.004),
    ("Spine2", SHIRT, 0.046, 0.054, -0.005, 0.004),
    ("Spine1", SHIRT, 0.040, 0.054, -0.005, 0.005),
    ("Spine", SHIRT, 0.038, 0.054, 0.0, 0.006),
    ("Hips", TROUSERS, 0.040, 0.057, 0.020, 0.002),
    ("Hips", TROUSERS, 0.046, 0.056, -0.012, -0.004),
)


def _arm_and_leg(side: str, sign: int) -> list[Solid]:
    half_arm, half_shin = (sign * 0.09, -0.004, 0.0), (0.0, -0.1, 0.0)
    solids = [
        Solid("Spine2", f"{side}Arm", 0.046, 0.0378, SHIRT, (sign * 0.04, 0.066, -0.006)),
        Solid(f"{side}Arm", f"{side}Arm", 0.037, 0.031, SHIRT, end_offset=half_arm),
        Solid(f"{side}Arm", f"{side}ForeArm", 0.0275, 0.023, SLEEVE, half_arm),
        Solid(f"{side}ForeArm", f"{side}Hand", 0.0235, 0.0155, SLEEVE),
        Solid(f"{side}Hand", f"{side}HandIndex1", 0.0135, 0.0125, SKIN, end_offset=(-sign * 0.008, 0.0, -0.002)),
        Solid(f"{side}Hand", f"{side}HandPinky1", 0.0135, 0.0115, SKIN, end_offset=(-sign * 0.006, 0.0, 0.002)),
        Solid(f"{side}UpLeg", f"{side}Leg", 0.052, 0.034, TROUSERS),
        Solid(f"{side}Leg", f"{side}Leg", 0.0332, 0.032, TROUSERS, end_offset=half_shin),
        Solid(f"{side}Leg", f"{side}Foot", 0.0305, 0.020, SHIN, half_shin),
        Solid(f"{side}Foot", f"{side}ToeBase", 0.026, 0.022, SHOES, (0.0, -0.014, -0.012)),
        Solid(f"{side}ToeBase", f"{side}Toe_End", 0.0215, 0.017, SHOES),
    ]
    for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky"):
        root = f"{side}Hand{finger}"
        width = 0.0068 if finger == "Thumb" else 0.0060
        solids += [
            Solid(f"{root}1", f"{root}2", width + 0.0006, width, SKIN),
            Solid(f"{root}2", f"{root}4", width - 0.0003, width - 0.001, SKIN),
        ]
    return solids


SOLIDS: Final = (
    *(
        Solid(joint, joint, radius, radius, material, (-half, height, depth), (half, height, depth))
        for joint, material, half, radius, height, depth in _TORSO
    ),
    *(solid for side, sign in SIDES for solid in _arm_and_leg(side, sign)),
    Solid("Neck", "Head", 0.033, 0.030, SKIN, (0.0, -0.02, -0.004), (0.0, 0.01, 0.0)),
    # the face; the camera is right in front of it
    Solid("Head", "Head", 0.034, 0.019, SKIN, (0.0, 0.034, 0.012), (0.0, 0.000, 0.034)),
    Solid("Head", "Head", 0.050, 0.048, HAIR, (0.0, 0.075, -0.008), (0.0, 0.06, -0.014)),
)
"""The body. The object id of a solid is the index of its first joint in the frame's joints, plus one."""

OBJECT_IDS: Final = np.array([0, *(INDEX[solid.start] + 1 for solid in SOLIDS)], np.uint8)
"""Object id of each solid number: 0 is the background, solid i has number i + 1."""

ROOM_ID: Final = len(NAMES) + 1
"""Object id of the room's first surface; the six are in the order walls -x +x, floor, ceiling, walls -z +z."""

_STARTS: Final = np.array([INDEX[solid.start] for solid in SOLIDS])
_ENDS: Final = np.array([INDEX[solid.end] for solid in SOLIDS])
_START_OFFSETS: Final = np.array([solid.start_offset for solid in SOLIDS])
_END_OFFSETS: Final = np.array([solid.end_offset for solid in SOLIDS])
_MATERIALS: Final = np.array([solid.material for solid in SOLIDS])
_RADII: Final = np.array([(solid.radius, solid.end_radius) for solid in SOLIDS])
_FIRM: Final = np.isin(_MATERIALS, (SHOES, HAIR)) | np.array(["Hand" in solid.start for solid in SOLIDS])


def solid_ends(
    positions: NDArray[np.float64], rotations: NDArray[np.float64], height: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return start and end points (S, 3) of the solids, world cm, for joints (J, 3) and rotations (J, 3, 3)."""
    starts = positions[_STARTS] + np.einsum("sij,sj->si", rotations[_STARTS], _START_OFFSETS * height)
    ends = positions[_ENDS] + np.einsum("sij,sj->si", rotations[_ENDS], _END_OFFSETS * height)
    return starts, ends


def solid_radii(physique: Physique) -> NDArray[np.float64]:
    """Return the radii (S, 2) in cm at start and end; girth does not change hands, feet and head."""
    return _RADII * physique.height * np.where(_FIRM, 1.0, physique.girth)[:, None]


def draw_colors(subject: str, seed: int) -> NDArray[np.float64]:
    """Return the color (S, 3) of each solid, blue green red, 0 to 255."""
    random = random_stream(seed, subject, "colors")

    def pick(colors: tuple[tuple[int, int, int], ...], *others: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draw a color that differs clearly from the others."""
        while True:
            drawn = np.clip(np.array(colors[random.integers(len(colors))]) + random.uniform(-14, 14, 3), 12, 250)
            if all(np.abs(drawn - other).sum() > 120 for other in others):
                return drawn

    skin = pick(_SKINS)
    shirt = pick(_SHIRTS, skin)
    trousers = pick(_TROUSERS, shirt, skin)
    shoes = pick(_SHOES, trousers, skin)
    long_sleeves, shorts = random.random() < 0.35, random.random() < 0.3
    palette = {
        SKIN: skin,
        SHIRT: shirt,
        TROUSERS: trousers,
        SHOES: shoes,
        HAIR: pick(_HAIRS),
        SLEEVE: shirt if long_sleeves else skin,
        SHIN: skin if shorts else trousers,
    }
    return np.stack([palette[material] for material in _MATERIALS])
