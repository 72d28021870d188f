"""From a few controls (of hips, hands and feet, for example) to the position and rotation of every joint.

All functions work on n frames at once. In all frames of reference, x points left, y up and z forward.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import INDEX, NAMES, PARENTS, SIDES, Physique

Floats = NDArray[np.float64]

_SPINE: Final = ("Spine", "Spine1", "Spine2")


def rotation(pitch: Any, yaw: Any = 0.0, roll: Any = 0.0) -> Floats:
    """Return rotation matrices (..., 3, 3): bend forward, then turn left, then lean right (degrees)."""
    x, y, z = np.radians(np.broadcast_arrays(pitch, yaw, np.negative(roll)))
    (cx, cy, cz), (sx, sy, sz) = (np.cos(x), np.cos(y), np.cos(z)), (np.sin(x), np.sin(y), np.sin(z))
    rows = [
        [cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def apply(matrices: Floats, vectors: Floats) -> Floats:
    """Rotate vectors (..., 3) by matrices (..., 3, 3)."""
    return np.asarray((matrices * vectors[..., None, :]).sum(axis=-1))


def _two_bones(start: Floats, target: Floats, pole: Floats, upper: float, lower: float) -> tuple[Floats, ...]:
    """Solve a chain of two bones from ``start`` to ``target`` (n, 3), its middle joint pushed towards ``pole``.

    Returns the directions of both bones and the middle joint's axis. A chain that is too short points at the target.
    """
    difference = target - start
    reach = np.linalg.norm(difference, axis=-1, keepdims=True)
    forward = difference / reach
    reach = np.clip(reach, 0.3 * (upper + lower), 0.995 * (upper + lower))
    sideways = pole - (pole * forward).sum(axis=-1, keepdims=True) * forward
    sideways = sideways / np.linalg.norm(sideways, axis=-1, keepdims=True)
    cosine = np.clip((upper**2 + reach**2 - lower**2) / (2 * upper * reach), -1, 1)
    first = cosine * forward + np.sqrt(1 - cosine**2) * sideways
    return first, (reach * forward - upper * first) / lower, np.cross(forward, sideways)


def _columns(x: Floats, y: Floats) -> Floats:
    return np.stack([x, y, np.cross(x, y)], axis=-1)


class Solver:
    """Solves the joints of n frames of one subject."""

    def __init__(self, physique: Physique, origin: Floats, heading: Floats) -> None:
        """Take the subject's position (n, 3) on the floor (cm) and its rotation (n,) about the vertical (degrees)."""
        self._physique = physique
        self._origin = origin
        self._root = rotation(0.0, heading)
        self._rotations: dict[str, Floats] = {}
        self._positions: dict[str, Floats] = {}

    def solve(self, controls: dict[str, Floats]) -> tuple[Floats, Floats]:
        """Return world positions (n, J, 3) in cm and world rotations (n, J, 3, 3) of `NAMES`.

        ``controls`` are the columns of `tools.synthesis.motion.CONTROLS`.
        """
        self._torso(controls)
        for side, sign in SIDES:
            self._arm(controls, side, sign)
            self._leg(controls, side, sign)
        for name in NAMES[1:]:
            self._add_joint(name)
        positions = np.stack([self._positions[name] for name in NAMES], axis=1)
        return positions, np.stack([self._rotations[name] for name in NAMES], axis=1)

    def _torso(self, controls: dict[str, Floats]) -> None:
        body = self._physique
        hips = controls["hips"] * body.leg
        hips[:, 1] += body.standing_hips
        self._positions["Hips"] = self._origin + apply(self._root, hips)
        self._rotations["Hips"] = self._root @ rotation(*controls["pelvis"].T)
        third = rotation(*(controls["spine"].T / len(_SPINE)))
        for name, parent in zip(_SPINE, ("Hips", *_SPINE), strict=False):
            self._rotations[name] = self._rotations[parent] @ third
        half = rotation(*(controls["head"].T / 2))
        self._rotations["Neck"] = self._rotations["Spine2"] @ half
        self._rotations["Head"] = self._rotations["Neck"] @ half
        for name in (*_SPINE, "LeftShoulder", "RightShoulder", "LeftArm", "RightArm", "LeftUpLeg", "RightUpLeg"):
            self._add_joint(name)

    def _arm(self, controls: dict[str, Floats], side: str, sign: int) -> None:
        body, chest, shoulder = self._physique, self._rotations["Spine2"], self._positions[f"{side}Arm"]
        target = controls[f"{side}Hand"] * [sign, 1, 1] * body.arm
        swivel = rotation(0.0, 0.0, sign * controls[f"{side}Elbow"][:, 0])
        pole = apply(chest @ swivel, np.array([0.4 * sign, -0.8, -0.45]))
        upper, fore, axis = _two_bones(
            shoulder, shoulder + apply(chest, target), pole, body.bone(f"{side}ForeArm"), body.bone(f"{side}Hand")
        )
        self._rotations[f"{side}Arm"] = _columns(sign * upper, sign * axis)
        self._rotations[f"{side}ForeArm"] = _columns(sign * fore, sign * axis)
        curl = controls[f"{side}Fist"][:, 0] * 60
        hand = self._rotations[f"{side}Hand"] = self._rotations[f"{side}ForeArm"]
        for phalanx in range(1, 5):
            bent = hand @ rotation(0.0, 0.0, sign * curl * min(phalanx, 3))
            for finger in ("Index", "Middle", "Ring", "Pinky"):
                self._rotations[f"{side}Hand{finger}{phalanx}"] = bent
            self._rotations[f"{side}HandThumb{phalanx}"] = hand @ rotation(0.0, sign * curl * 0.3 * phalanx)

    def _leg(self, controls: dict[str, Floats], side: str, sign: int) -> None:
        body, hip = self._physique, self._positions[f"{side}UpLeg"]
        foot = controls[f"{side}Foot"]
        ankle = foot[:, :3] * [sign, 1, 1] * body.leg
        ankle += [body.offsets[INDEX[f"{side}UpLeg"], 0], body.ankle, 0.0]
        # a foot that points down stands on its toes
        length = body.offsets[INDEX[f"{side}ToeBase"], 2] + body.offsets[INDEX[f"{side}Toe_End"], 2]
        ankle[:, 1] = np.maximum(ankle[:, 1], body.ankle - length * np.sin(np.radians(foot[:, 3])))
        ground = self._root @ rotation(0.0, sign * foot[:, 4])
        thigh, shin, axis = _two_bones(
            hip,
            self._origin + apply(self._root, ankle),
            apply(ground, np.array([0.1 * sign, 0.35, 1.0])),
            body.bone(f"{side}Leg"),
            body.bone(f"{side}Foot"),
        )
        self._rotations[f"{side}UpLeg"] = _columns(-axis, -thigh)
        self._rotations[f"{side}Leg"] = _columns(-axis, -shin)
        self._rotations[f"{side}Foot"] = ground @ rotation(-foot[:, 3])

    def _add_joint(self, name: str) -> None:
        parent = NAMES[PARENTS[INDEX[name]]]
        offset = apply(self._rotations[parent], self._physique.offsets[INDEX[name]])
        self._positions[name] = self._positions[parent] + offset
        # a joint without a rotation of its own has its parent's
        self._rotations.setdefault(name, self._rotations[parent])


def euler_degrees(matrices: Floats) -> Floats:
    """Return the angles (..., 3) about the static axes x, y, z of rotations (..., 3, 3), in degrees."""
    x = np.arctan2(matrices[..., 2, 1], matrices[..., 2, 2])
    y = np.arctan2(-matrices[..., 2, 0], np.hypot(matrices[..., 2, 1], matrices[..., 2, 2]))
    z = np.arctan2(matrices[..., 1, 0], matrices[..., 0, 0])
    return np.asarray(np.degrees(np.stack([x, y, z], axis=-1)))
