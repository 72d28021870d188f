"""Skeletons: the joints of a dataset's poses, and what is known of them; groups of its actions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

ActionGroups = Mapping[str, Sequence[str]]
"""Groups of actions in the order of tables, each with the names of its actions."""

_OTHER_SIDE: Final = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
_LEFT = re.compile(r"left|Left|LEFT|(?<![A-Za-z])[lL](?![A-Za-z])")


def _pairs_by_name(joints: Sequence[str]) -> list[tuple[str, str]]:
    mirrored = [(name, _LEFT.sub(lambda found: _OTHER_SIDE[found[0]], name)) for name in joints]
    return [(left, right) for left, right in mirrored if left != right and right in joints]


@dataclass(frozen=True)
class Skeleton:
    """The joints of a pose, in the order of its arrays, to which all indices refer. `of` makes one from names."""

    joints: tuple[str, ...]
    """Names."""
    parents: tuple[int, ...]
    """The kinematic tree: the joint that each joint hangs on. The root, which poses are relative to, names itself."""
    bones: tuple[tuple[int, int], ...]
    """(start, end) of what is drawn, and what losses and metrics compare; they need not be a tree."""
    mirror_pairs: tuple[tuple[int, int], ...]
    """(left, right) of the wearer: what a mirror exchanges."""
    heatmap_joints: tuple[int, ...]
    """The joints that have a heatmap, ascending."""
    head: int | None = None
    """The joint that the camera is fixed to, whose place before the camera is always the same; None if none is."""
    upper_body: tuple[int, ...] = ()
    """Joints of the upper half, over which a metric of its own is averaged; empty: there is none."""
    lower_body: tuple[int, ...] = ()
    """Likewise."""

    def __post_init__(self) -> None:
        """Raise ValueError for what is no skeleton."""
        count = len(self.joints)
        named = [*self.parents, *self.heatmap_joints, *self.upper_body, *self.lower_body]
        named += [joint for pair in (*self.bones, *self.mirror_pairs) for joint in pair]
        named += [] if self.head is None else [self.head]
        paired = [joint for pair in self.mirror_pairs for joint in pair]
        if len(set(self.joints)) < count or len(self.parents) != count:
            raise ValueError("it has a joint twice, or not one parent for each")
        if not all(0 <= joint < count for joint in named):
            raise ValueError(f"it names a joint beyond its {count}")
        if len(set(paired)) < len(paired):
            raise ValueError("a joint is in two mirror pairs")
        if not self.heatmap_joints or list(self.heatmap_joints) != sorted(set(self.heatmap_joints)):
            raise ValueError("its heatmap joints are none, or not in the order of the joints")
        if len(self.tree_order) < count:
            raise ValueError("its parents are no tree: all must lead to one root, which names itself")

    @classmethod
    def of(
        cls,
        parents: Mapping[str, str | None],
        *,
        bones: Iterable[tuple[str, str]] | None = None,
        mirror_pairs: Iterable[tuple[str, str]] | None = None,
        without_heatmap: Iterable[str] = (),
        head: str | None = None,
        upper_body: Iterable[str] = (),
        lower_body: Iterable[str] = (),
    ) -> Self:
        """Return the skeleton that names describe.

        Args:
            parents: each joint, in the order of the arrays, and the joint that it hangs on; None for the root.
            bones: (start, end); None takes the tree's.
            mirror_pairs: (left, right); None takes the joints whose names differ by left and right alone, or by l and
                r that stand alone, as in ``hand_l``.
            without_heatmap: joints that the camera cannot see.
            head: the joint that the camera is fixed to.
            upper_body: joints of the upper half.
            lower_body: joints of the lower half.

        Raises:
            ValueError: it is no skeleton, or a name is none of its joints; the message says what.
        """
        joints = tuple(parents)

        def index(name: str) -> int:
            if name not in joints:
                raise ValueError(f"{name} is none of its joints {', '.join(joints)}")
            return joints.index(name)

        hidden = [index(name) for name in without_heatmap]
        tree = tuple(index(joint if parent is None else parent) for joint, parent in parents.items())
        return cls(
            joints,
            tree,
            bones=tuple((tree[i], i) for i in range(len(joints)) if tree[i] != i)
            if bones is None
            else tuple((index(start), index(end)) for start, end in bones),
            mirror_pairs=tuple(
                (index(left), index(right))
                for left, right in (_pairs_by_name(joints) if mirror_pairs is None else mirror_pairs)
            ),
            heatmap_joints=tuple(i for i in range(len(joints)) if i not in hidden),
            head=None if head is None else index(head),
            upper_body=tuple(map(index, upper_body)),
            lower_body=tuple(map(index, lower_body)),
        )

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.joints)

    @cached_property
    def root(self) -> int:
        """The joint that poses are relative to."""
        return next(i for i, parent in enumerate(self.parents) if i == parent)

    @cached_property
    def tree_order(self) -> tuple[int, ...]:
        """The joints, each after its parent; fewer of them where the parents are no tree."""
        roots = [i for i, parent in enumerate(self.parents) if i == parent]
        order = roots[:1]
        for joint in order:
            order += [i for i, parent in enumerate(self.parents) if parent == joint and i != joint]
        return tuple(order)

    @cached_property
    def flip_indices(self) -> tuple[int, ...]:
        """``flipped[..., i, :] = pose[..., flip_indices[i], :]`` exchanges left and right."""
        other = {a: b for pair in self.mirror_pairs for a, b in (pair, pair[::-1])}
        return tuple(other.get(i, i) for i in range(len(self)))

    @cached_property
    def heatmap_names(self) -> tuple[str, ...]:
        """Names of the joints that have a heatmap."""
        return tuple(self.joints[i] for i in self.heatmap_joints)

    @cached_property
    def heatmap_slices(self) -> tuple[slice, ...]:
        """Runs of neighbors that make up `heatmap_joints`."""
        runs: list[list[int]] = []
        for joint in self.heatmap_joints:
            if runs and runs[-1][1] == joint:
                runs[-1][1] += 1
            else:
                runs.append([joint, joint + 1])
        return tuple(slice(*run) for run in runs)


MO2CAP2: Final = Skeleton.of(
    {
        "Neck": None,
        "RightArm": "Neck", "RightForeArm": "RightArm", "RightHand": "RightForeArm",
        "LeftArm": "Neck", "LeftForeArm": "LeftArm", "LeftHand": "LeftForeArm",
        "RightUpLeg": "Neck", "RightLeg": "RightUpLeg", "RightFoot": "RightLeg", "RightToeBase": "RightFoot",
        "LeftUpLeg": "Neck", "LeftLeg": "LeftUpLeg", "LeftFoot": "LeftLeg", "LeftToeBase": "LeftFoot",
    },
    upper_body=("Neck", "RightArm", "RightForeArm", "RightHand", "LeftArm", "LeftForeArm", "LeftHand"),
    lower_body=(
        "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase",
    ),
)  # fmt: skip
"""The 15 joints of Xu et al., "Mo2Cap2: Real-time Mobile 3D Motion Capture with a Cap-mounted Fisheye Camera", TVCG
2019, in their order, which EgoPW and SceneEgo have as well. No joint is fixed to the camera, and all have a heatmap."""


def action_name(action: str) -> str:
    """Return an action as groups list it, given how it stands in a frame's labels.

    Anything from ``_mixamo_com`` on is dropped: so xR-EgoPose's JSON names the clips of its motion library.
    """
    return action.split("_mixamo_com", 1)[0]


def action_group(action: str, groups: ActionGroups) -> str | None:
    """Return the group of an action as it stands in a frame's labels; None for one of no group."""
    name = action_name(action)
    return next((group for group, actions in groups.items() if name in actions), None)
