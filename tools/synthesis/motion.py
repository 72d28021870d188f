"""Motion: the controls of a body, and the action and the pose of each frame of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.xr_egopose import ACTION_GROUPS
from tools.synthesis.body import random_stream

CONTROLS: Final = {
    # in leg lengths from their position when standing: left, up, forward
    "hips": (0.0, 0.0, 0.0),
    # degrees: bent forward, turned left, leaning right
    "pelvis": (0.0, 0.0, 0.0),
    "spine": (0.0, 0.0, 0.0),
    "head": (0.0, 0.0, 0.0),
    # in arm lengths from the shoulder in the chest's frame: outward, up, forward
    "LeftHand": (0.16, -0.93, 0.12),
    "RightHand": (0.16, -0.93, 0.12),
    # degrees by which the elbow is lifted outward
    "LeftElbow": (0.0,),
    "RightElbow": (0.0,),
    # 0 open, 1 a fist
    "LeftFist": (0.2,),
    "RightFist": (0.2,),
    # in leg lengths from below the hip: outward, up, forward; degrees: toes up, turned outward
    "LeftFoot": (0.05, 0.0, 0.0, 0.0, 8.0),
    "RightFoot": (0.05, 0.0, 0.0, 0.0, 8.0),
}
"""The controls of a pose, with the values of standing at ease."""

_STOPS: Final = np.cumsum([len(values) for values in CONTROLS.values()]).tolist()
_SLICES: Final = {name: slice(stop - len(CONTROLS[name]), stop) for name, stop in zip(CONTROLS, _STOPS, strict=True)}
"""Columns of each control in a pose."""
AT_EASE: Final = np.concatenate(list(CONTROLS.values()))

_STEPS: Final = np.concatenate([np.arange(3) + _SLICES[name].start for name in ("hips", "LeftFoot", "RightFoot")])
"""Columns of the positions of hips and feet."""
_STEP_SIZE: Final = (0.2, 1.0)
"""Least and greatest part of the families' movements that clips make. This, `_LEAN`, `_REACH` and `_GAZE` make joints
lie and spread in the image as in the release: docs/data.md compares them."""
_LEAN: Final = -14.0
"""How far all spines are bent forward of the families' (degrees)."""
_REACH: Final = ((0.54, 0.06, -0.26), (0.28, 0.16, 0.12))
"""How far hands are from where the families have them: mean and standard deviation over clips (arm lengths)."""
_GAZE: Final = ((2.5, 0.0, 0.0), (9.0, 44.0, 7.0))
"""How far the head is turned against the neck: mean and deviation over clips of pitch, yaw, roll (degrees)."""
_GLANCE: Final = np.array([5.0, 14.0, 4.0])
"""How far it goes to and fro within a clip (standard deviation of the amplitude, degrees)."""
_LOOK_AHEAD: Final = 0.8
"""Part of the bend of hips and spine that the head makes good, so that the eyes look ahead."""

_STYLE: Final = {"hips": 0.01, "pelvis": 3, "spine": 4, "Hand": 0.08, "Elbow": 12, "Fist": 0.1}
"""How far clips of one action differ from each other (standard deviation, in the controls' units)."""

_CLIPS_PER_RECORDING: Final = 36
_FRAMES_PER_CYCLE: Final = 45

_PLURALS: Final = {"hands": "Hand", "feet": "Foot", "fists": "Fist", "elbows": "Elbow"}


def key(**controls: tuple[float, ...]) -> NDArray[np.float64]:
    """Return a key pose (C,): standing at ease except for the named controls.

    ``hands``, ``feet``, ``fists`` and ``elbows`` set the left and the right one, unless that is given too.
    """
    pose = AT_EASE.copy()
    for plural in _PLURALS.keys() & controls.keys():
        values, name = controls.pop(plural), _PLURALS[plural]
        controls = {f"Left{name}": values, f"Right{name}": values, **controls}
    for name, values in controls.items():
        start = _SLICES[name].start
        pose[start : start + len(values)] = values
    return pose


def flipped(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return poses (..., C) with left and right exchanged."""
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
    """Actions that share a cycle of key poses."""

    actions: tuple[str, ...]
    keys: tuple[NDArray[np.float64], ...]

    def poses(self, phases: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the poses (n, C) at phases (n,) of the cycle, interpolated smoothly between the keys."""
        position = (phases % 1.0) * len(self.keys)
        first = position.astype(int)
        share = (position - first)[:, None]
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
    positions: NDArray[np.float64]
    """(N, 2), x and z of the subject on the floor (cm)."""
    headings: NDArray[np.float64]
    """(N,), direction that the subject faces (degrees about the vertical axis)."""

    def controls(self, frames: slice) -> dict[str, NDArray[np.float64]]:
        """Return the poses of some frames by the name of the control, each (n, values)."""
        return {name: self.poses[frames, part].copy() for name, part in _SLICES.items()}


def draw_track(families: Sequence[Family], frames: int, seed: int, subject: str, environment: int) -> Track:
    """Draw the clips of a recording: the nine groups take turns, each with one of its actions.

    In short recordings, clips are short and pass through the cycle fast, so that a few dozen frames show every group.
    """
    random = random_stream(seed, subject, environment, "track")
    length = int(np.clip(frames // _CLIPS_PER_RECORDING, 2, 120))
    family_of = {action: family for family in families for action in family.actions}
    actions, poses, positions, headings = [], [], [], []
    for action in _draw_actions(-(-frames // length), random):
        suffix = "_mixamo_com" if random.random() < 0.3 else ""
        step = 1 / min(length, _FRAMES_PER_CYCLE) * random.uniform(0.8, 1.1)
        clip = _styled(family_of[action].poses(random.random() + step * np.arange(length)), random)
        actions += [action + suffix] * length
        poses.append(clip)
        positions.append(np.tile(random.uniform(-60, 60, 2), (length, 1)))
        headings.append(random.uniform(-180, 180) + random.uniform(-3, 3) * np.arange(length))
    return Track(actions[:frames], *(np.concatenate(parts)[:frames] for parts in (poses, positions, headings)))


def _draw_actions(clips: int, random: np.random.Generator) -> list[str]:
    """Return an action per clip: the groups take turns in random order, and so do the actions of each group."""
    decks: dict[str, list[str]] = {group: [] for group in ACTION_GROUPS}
    drawn: list[str] = []
    while len(drawn) < clips:
        for group in random.permutation(list(ACTION_GROUPS)):
            deck = decks[group] or list(random.permutation(ACTION_GROUPS[group]))
            drawn.append(str(deck[0]))
            decks[group] = deck[1:]
    return drawn[:clips]


def _styled(clip: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Vary a clip (n, C): the size of its movements, the posture, and left or right."""
    clip = AT_EASE + (clip - AT_EASE) * random.uniform(0.85, 1.08)
    clip[:, _STEPS] = AT_EASE[_STEPS] + (clip - AT_EASE)[:, _STEPS] * random.uniform(*_STEP_SIZE)
    clip[:, _SLICES["spine"].start] += _LEAN
    for side in ("Left", "Right"):
        clip[:, _SLICES[f"{side}Hand"]] += random.normal(*_REACH)
    for name, part in _SLICES.items():
        spread = _STYLE.get(name, _STYLE.get(name.removeprefix("Left").removeprefix("Right"), 0.0))
        clip[:, part] += random.normal(0.0, 1.0, part.stop - part.start) * spread
    cycles = random.uniform(0, 1, 3) + np.arange(len(clip))[:, None] * random.uniform(0.5, 1.5, 3) / _FRAMES_PER_CYCLE
    head = clip[:, _SLICES["head"]]
    head += random.normal(*_GAZE) + random.normal(0.0, _GLANCE) * np.sin(2 * np.pi * cycles)
    head[:, 0] -= _LOOK_AHEAD * (clip[:, _SLICES["pelvis"].start] + clip[:, _SLICES["spine"].start])
    return flipped(clip) if random.random() < 0.5 else clip
