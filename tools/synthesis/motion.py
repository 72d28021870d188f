"""Motion: what drives a body, and which clip of which action each frame of a recording belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.skeleton import ACTION_GROUPS
from tools.synthesis.body import random_stream

CONTROLS: Final = {
    # in leg lengths from where they are when standing: left, up, ahead
    "hips": (0.0, 0.0, 0.0),
    # degrees: forward, to the left, leaning right
    "pelvis": (0.0, 0.0, 0.0),
    "spine": (4.0, 0.0, 0.0),
    "head": (4.0, 0.0, 0.0),
    # in arm lengths from the shoulder in the chest's frame: outwards, up, ahead
    "LeftHand": (0.16, -0.93, 0.12),
    "RightHand": (0.16, -0.93, 0.12),
    # degrees by which the elbow is lifted outwards
    "LeftElbow": (0.0,),
    "RightElbow": (0.0,),
    # 0 open, 1 a fist
    "LeftFist": (0.2,),
    "RightFist": (0.2,),
    # in leg lengths from below the hip: outwards, up, ahead; degrees: toes up, turned out
    "LeftFoot": (0.05, 0.0, 0.0, 0.0, 8.0),
    "RightFoot": (0.05, 0.0, 0.0, 0.0, 8.0),
}
"""What a pose is made of, with the values of standing at ease."""

_SLICES: Final[dict[str, slice]] = {}
for _name, _values in CONTROLS.items():
    _start = max((part.stop for part in _SLICES.values()), default=0)
    _SLICES[_name] = slice(_start, _start + len(_values))
AT_EASE: Final = np.concatenate([np.array(values) for values in CONTROLS.values()])

_STYLE: Final = {"hips": 0.01, "pelvis": 3, "spine": 4, "head": 4, "Hand": 0.05, "Elbow": 12, "Fist": 0.1}
"""How far clips of one action differ from each other (standard deviation, in the controls' units)."""

_CLIPS_PER_RECORDING: Final = 36
_FRAMES_PER_CYCLE: Final = 45

Values = tuple[float, ...]


def key(
    *,
    hands: Values | None = None,
    feet: Values | None = None,
    fists: Values | None = None,
    elbows: Values | None = None,
    **controls: Values,
) -> NDArray[np.float64]:
    """Return a key pose (C,): standing at ease but for what is named; the plurals mean left and right alike."""
    pose = AT_EASE.copy()
    for name, values in (("Hand", hands), ("Foot", feet), ("Fist", fists), ("Elbow", elbows)):
        if values is not None:
            controls = {f"Left{name}": values, f"Right{name}": values, **controls}
    for name, values in controls.items():
        start = _SLICES[name].start
        pose[start : start + len(values)] = values
    return pose


def mirrored(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exchange left and right in poses (..., C)."""
    result = poses.copy()
    for name, part in _SLICES.items():
        if name.startswith("Left"):
            other = _SLICES["Right" + name.removeprefix("Left")]
            result[..., part], result[..., other] = poses[..., other], poses[..., part]
    result[..., _SLICES["hips"].start] *= -1
    for name in ("pelvis", "spine", "head"):
        result[..., _SLICES[name].start + 1 : _SLICES[name].stop] *= -1
    return result


@dataclass(frozen=True)
class Family:
    """A cycle of key poses that several actions share."""

    actions: tuple[str, ...]
    keys: tuple[NDArray[np.float64], ...]

    def poses(self, phases: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the poses (n, C) at phases (n,) of the cycle, easing from key to key."""
        place = (phases % 1.0) * len(self.keys)
        first = place.astype(int)
        share = (place - first)[:, None]
        share = share * share * (3 - 2 * share)
        table = np.stack(self.keys)
        return np.asarray(table[first % len(table)] * (1 - share) + table[(first + 1) % len(table)] * share)


@dataclass(frozen=True)
class Track:
    """The motion of a whole recording of N frames."""

    actions: list[str]
    """The action of each frame."""
    poses: NDArray[np.float64]
    """(N, C) controls."""
    places: NDArray[np.float64]
    """(N, 2), where the subject stands: x, z on the floor (cm)."""
    facing: NDArray[np.float64]
    """(N,), where the subject looks (degrees about the vertical)."""

    def controls(self, frames: slice) -> dict[str, NDArray[np.float64]]:
        """Return the poses of some frames by the name of the control, each (n, values)."""
        return {name: self.poses[frames, part].copy() for name, part in _SLICES.items()}


def draw_track(families: Sequence[Family], frames: int, seed: int, subject: str, environment: int) -> Track:
    """Draw the clips of a recording: the nine groups in turn, an action of the group, a stretch of its cycle.

    Short recordings have short clips that stride through the cycle, so a few dozen frames hold every family.
    """
    random = random_stream(seed, subject, environment, "track")
    length = int(np.clip(frames // _CLIPS_PER_RECORDING, 2, 120))
    family_of = {action: family for family in families for action in family.actions}
    actions, poses, places, facing = [], [], [], []
    for action in _draw_actions(-(-frames // length), random):
        suffix = "_mixamo_com" if random.random() < 0.3 else ""
        step = 1 / min(length, _FRAMES_PER_CYCLE) * random.uniform(0.8, 1.1)
        clip = _styled(family_of[action].poses(random.random() + step * np.arange(length)), random)
        actions += [action + suffix] * length
        poses.append(clip)
        places.append(np.tile(random.uniform(-60, 60, 2), (length, 1)))
        facing.append(random.uniform(-180, 180) + random.uniform(-3, 3) * np.arange(length))
    return Track(
        actions[:frames],
        np.concatenate(poses)[:frames],
        np.concatenate(places)[:frames],
        np.concatenate(facing)[:frames],
    )


def _draw_actions(clips: int, random: np.random.Generator) -> list[str]:
    """Return an action per clip: each round has every group once; a group goes through all its actions."""
    decks: dict[str, list[str]] = {group: [] for group in ACTION_GROUPS}
    drawn: list[str] = []
    while len(drawn) < clips:
        for group in random.permutation(list(ACTION_GROUPS)):
            deck = decks[group] or list(random.permutation(ACTION_GROUPS[group]))
            drawn.append(str(deck[0]))
            decks[group] = deck[1:]
    return drawn[:clips]


def _styled(clip: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Vary a clip (n, C): its size, its posture, its handedness."""
    clip = AT_EASE + (clip - AT_EASE) * random.uniform(0.85, 1.08)
    for name, part in _SLICES.items():
        spread = _STYLE.get(name, _STYLE.get(name.removeprefix("Left").removeprefix("Right"), 0.0))
        clip[:, part] += random.normal(0.0, 1.0, part.stop - part.start) * spread
    return mirrored(clip) if random.random() < 0.5 else clip
