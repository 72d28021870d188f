"""What a body is made of: rounded cones, each of a material."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import INDEX, NAMES, SIDES, Offset, Physique
from tools.synthesis.outfit import CAP, CHIN, HAIR, LIPS, SHIN, SHIRT, SHOES, SKIN, SLEEVE, TROUSERS, Outfit


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
    """One of `tools.synthesis.outfit`."""
    start_offset: Offset = (0.0, 0.0, 0.0)
    """From the joint, in its frame (fractions of the body height)."""
    end_offset: Offset = (0.0, 0.0, 0.0)
    cloth: str = ""
    """The joint that the texture moves with; empty is the first one."""


_TORSO: Final = (  # bars from right to left, because a torso is wider than deep: half width, radius, height, depth
    ("Spine2", SHIRT, 0.050, 0.056, 0.040, 0.010),
    ("Spine2", SHIRT, 0.044, 0.063, 0.000, 0.016),
    ("Spine1", SHIRT, 0.038, 0.064, -0.005, 0.018),
    ("Spine", SHIRT, 0.036, 0.064, 0.0, 0.016),
    ("Hips", SHIRT, 0.038, 0.063, 0.015, 0.008),
    ("Hips", TROUSERS, 0.046, 0.058, -0.020, -0.002),
)


def _arm_and_leg(side: str, sign: int) -> list[Solid]:
    half_arm, half_shin = (sign * 0.09, -0.004, 0.0), (0.0, -0.1, 0.0)
    solids = [
        Solid("Spine2", f"{side}Arm", 0.046, 0.040, SHIRT, (sign * 0.035, 0.066, 0.004)),
        Solid(f"{side}Arm", f"{side}Arm", 0.037, 0.031, CAP, end_offset=half_arm),
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
        Solid(
            joint,
            joint,
            radius,
            radius,
            material,
            (-half, height, depth),
            (half, height, depth),
            "" if material == TROUSERS else "Spine2",
        )
        for joint, material, half, radius, height, depth in _TORSO
    ),
    *(solid for side, sign in SIDES for solid in _arm_and_leg(side, sign)),
    Solid("Neck", "Head", 0.036, 0.031, SKIN, (0.0, -0.03, 0.002), (0.0, 0.01, 0.0)),
    # the face; the camera is right in front of it
    *(
        Solid("Head", "Head", 0.026, 0.0195, CHIN, (sign * 0.031, -0.002, 0.006), (sign * 0.008, -0.019, 0.040))
        for _, sign in SIDES
    ),
    Solid("Head", "Head", 0.018, 0.018, CHIN, (-0.007, -0.018, 0.042), (0.007, -0.018, 0.042)),
    Solid("Head", "Head", 0.030, 0.030, SKIN, (-0.025, 0.018, 0.027), (0.025, 0.018, 0.027)),
    Solid("Head", "Head", 0.0045, 0.0045, LIPS, (-0.010, 0.013, 0.0535), (0.010, 0.013, 0.0535)),
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
MATERIALS: Final = np.array([solid.material for solid in SOLIDS])
"""(S,), the material of each solid."""
_CLOTHS: Final = np.array([INDEX[solid.cloth or solid.start] for solid in SOLIDS])
_RADII: Final = np.array([(solid.radius, solid.end_radius) for solid in SOLIDS])
_FIRM: Final = np.isin(MATERIALS, (SHOES, HAIR, LIPS, CHIN)) | np.array(["Hand" in solid.start for solid in SOLIDS])


def solid_ends(
    positions: NDArray[np.float64], rotations: NDArray[np.float64], height: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return start and end points (S, 3) of the solids, world cm, for joints (J, 3) and rotations (J, 3, 3)."""
    starts = positions[_STARTS] + np.einsum("sij,sj->si", rotations[_STARTS], _START_OFFSETS * height)
    ends = positions[_ENDS] + np.einsum("sij,sj->si", rotations[_ENDS], _END_OFFSETS * height)
    return starts, ends


def solid_radii(physique: Physique, outfit: Outfit) -> NDArray[np.float64]:
    """Return the radii (S, 2) in cm at start and end; girth does not change hands, feet and head."""
    girth = np.where(_FIRM, 1.0, physique.girth * outfit.thickness[MATERIALS])
    return _RADII * physique.height * girth[:, None]


def solid_frames(
    positions: NDArray[np.float64], rotations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the texture of each solid begins (S, 3), world cm, and along which directions it runs (S, 2, 3).

    The first goes across the body's front; the second goes up and forward, so that chest, shoulders and feet have it.
    """
    axes = rotations[_CLOTHS].swapaxes(-1, -2)
    return positions[_CLOTHS], np.stack([axes[:, 0], axes[:, 1] + axes[:, 2]], axis=1)
