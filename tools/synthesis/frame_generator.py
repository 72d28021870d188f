"""One recording (a subject in an environment): its scenes and its labels, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.xr_egopose import CAMERA, world_to_camera
from tools.synthesis.appearance import solid_ends, solid_frames, solid_radii
from tools.synthesis.body import INDEX, NAMES, PREFIX, draw_physique, random_stream
from tools.synthesis.families import FAMILIES
from tools.synthesis.kinematics import Floats, Solver, apply, euler_degrees
from tools.synthesis.motion import draw_track
from tools.synthesis.outfit import Outfit, draw_outfit
from tools.synthesis.render import Scene
from tools.synthesis.room import Room, draw_room
from tools.synthesis.shading import draw_exposure

HEAD: Final = np.array([-0.668, -18.734, 4.67])
"""The joint Head in the camera frame (cm), as in every frame of the release: the camera is rigid on the head."""

_LOOK_DOWN: Final = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Axes of a camera (x right, y up in the image, z backward) that looks straight down; the image's bottom is ahead and
its right side the wearer's left."""

_EYE: Final = -_LOOK_DOWN @ (HEAD * [1.0, -1.0, -1.0])
"""The camera in the head's frame (cm): left, up, forward."""

_DECIMALS: Final = 6


@dataclass(frozen=True)
class Frame:
    """The labels of one frame, and its scene."""

    number: int
    """From 1."""
    labels: dict[str, Any]
    """The content of the frame's JSON."""
    rotations: list[dict[str, Any]]
    """The content of the frame's rot JSON."""
    pixels: NDArray[np.float64]
    """(J, 2), the joints in the image."""
    make_scene: Callable[[], Scene]

    @property
    def scene(self) -> Scene:
        """The scene, which is made here, for those who want images."""
        return self.make_scene()


class FrameGenerator:
    """Draws the frames of one recording, each independently of the others."""

    def __init__(self, subject: str, environment: int, frames: int, seed: int) -> None:
        self._key = (subject, environment)
        self._seed = seed
        self._physique = draw_physique(subject, seed)
        self._track = draw_track(FAMILIES, frames, seed, subject, environment)

    @cached_property
    def _outfit(self) -> Outfit:
        return draw_outfit(*self._key, self._seed)

    @cached_property
    def _room(self) -> Room:
        return draw_room(*self._key, self._seed)

    def frames(self, first: int, last: int) -> list[Frame]:
        """Return frames ``first`` to ``last``, counted from 1, both included."""
        part = slice(first - 1, last)
        origins = np.insert(self._track.positions[part], 1, 0.0, axis=1)
        solver = Solver(self._physique, origins, self._track.headings[part])
        positions, rotations = solver.solve(self._track.controls(part))
        angles = euler_degrees(rotations)
        return [
            self._frame(number, positions[row], rotations[row], angles[row])
            for row, number in enumerate(range(first, first + len(positions)))
        ]

    def _frame(self, number: int, positions: Floats, rotations: Floats, angles: Floats) -> Frame:
        # labels are computed from the rounded numbers, so that they agree to the last digit
        positions = positions.round(_DECIMALS)
        camera_position, camera_angles = _camera(positions, rotations)
        view = world_to_camera(camera_position, camera_angles)
        points = (positions @ view[:3, :3].T + view[:3, 3]).round(_DECIMALS)
        pixels = CAMERA.project(points).round(_DECIMALS)
        world, angles = positions.tolist(), angles.round(_DECIMALS).tolist()
        names = [PREFIX + name for name in NAMES]
        labels = {
            "generated": True,
            "action": self._track.actions[number - 1],
            "camera": {
                "cam_fov": 2 * CAMERA.lens_angle,
                "rot": camera_angles.tolist(),
                "trans": camera_position.tolist(),
            },
            "char_height": round(self._physique.height, 2),
            "joints": [
                {"name": name, "rot": angle, "trans": position}
                for name, angle, position in zip(names, angles, world, strict=True)
            ],
            "pts2d_fisheye": pixels.T.tolist(),
            "pts3d_fisheye": points.T.tolist(),
        }
        rot = [{"name": name, "rot": angle} for name, angle in zip(names, angles, strict=True)]
        scene = partial(self._scene, number, positions, rotations, view)
        return Frame(number, labels, rot, pixels, scene)

    def _scene(self, number: int, positions: Floats, rotations: Floats, view: Floats) -> Scene:
        starts, ends = solid_ends(positions, rotations, self._physique.height)
        origins, axes = solid_frames(positions, rotations)
        radii = solid_radii(self._physique, self._outfit)
        exposure = draw_exposure(
            random_stream(self._seed, *self._key, "exposure"), random_stream(self._seed, *self._key, number)
        )
        return Scene(view, starts, ends, radii, origins, axes, self._outfit, self._room, exposure)


def _camera(positions: Floats, rotations: Floats) -> tuple[Floats, Floats]:
    """Return the camera's ``trans`` (cm) and ``rot`` (degrees)."""
    head = rotations[INDEX["Head"]]
    position = positions[INDEX["Head"]] + apply(head, _EYE)
    return position.round(_DECIMALS), euler_degrees(head @ _LOOK_DOWN).round(_DECIMALS)
