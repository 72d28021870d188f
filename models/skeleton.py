"""The xR-EgoPose skeleton: joints, bones, mirror pairs and action groups.

Source: Tome et al., "xR-EgoPose: Egocentric 3D Human Pose from an HMD Camera", ICCV 2019, and the
authors' data loader.
"""

from __future__ import annotations

from typing import Final

JOINTS: Final = (
    "Neck", "Head",
    "LeftArm", "LeftForeArm", "LeftHand",
    "RightArm", "RightForeArm", "RightHand",
    "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase",
    "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase",
)  # fmt: skip
"""The 16 joints of a pose, in training order. Names are the dataset's without ``mixamorig:``."""

NECK: Final = JOINTS.index("Neck")
"""The root: poses are relative to it."""

HEAD: Final = JOINTS.index("Head")
"""The camera sits on it and cannot see it."""

HEATMAP_JOINTS: Final = tuple(joint for joint in range(len(JOINTS)) if joint != HEAD)
"""Indices of the 15 joints that have a heatmap: all but `HEAD`."""

BONES: Final = (
    (0, 1),  # head
    (2, 3), (3, 4), (5, 6), (6, 7),  # arms
    (8, 9), (9, 10), (10, 11), (12, 13), (13, 14), (14, 15),  # legs
    (2, 8), (5, 12), (2, 5),  # torso
)  # fmt: skip
"""The 14 bones, (start, end) indices into `JOINTS`."""

PARENTS: Final = (0, 0, 0, 2, 3, 0, 5, 6, 0, 8, 9, 10, 0, 12, 13, 14)
"""The kinematic tree: the joint that each joint hangs on, which stands before it; `NECK`, the root, names itself.

Head, arms and thighs hang on Neck, since the joints of the spine are not among the 16; the `BONES` are no tree.
"""


def _mirrored(name: str) -> str:
    if name.startswith("Left"):
        return "Right" + name.removeprefix("Left")
    if name.startswith("Right"):
        return "Left" + name.removeprefix("Right")
    return name


FLIP_INDICES: Final = tuple(JOINTS.index(_mirrored(name)) for name in JOINTS)
"""``flipped[..., i, :] = pose[..., FLIP_INDICES[i], :]`` exchanges left and right."""

UPPER_BODY: Final = tuple(range(0, 8))
"""Indices of head, neck and arms."""
LOWER_BODY: Final = tuple(range(8, 16))
"""Indices of the legs."""

ACTION_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Gaming": (
        "Dribble", "Boxing", "Shooting_Gun", "Baseball_Umpire", "Golf_Putt_Failure", "Revealing_Dice",
        "Golf_Putt_Failure__1_", "Golf_Putt_Victory", "Golf_Putt_Victory__1_", "Charge",
    ),
    "Gesticulating": (
        "Opening_A_Lid", "Standing_Arguing", "Two_Hand_Spell_Casting", "Angry_Gesture", "Waving_Gesture",
        "Taunt_Gesture", "Taking_Punch", "Happy_Hand_Gesture", "Pointing", "Crazy_Gesture", "Arm_Gesture", "Fist_Pump",
        "Hand_Raising", "Counting__1_",
    ),
    "Greeting": ("Shaking_Hands_2", "Hands_Forward_Gesture", "Shake_Fist", "Standing_Greeting", "Quick_Formal_Bow"),
    "Lower Stretching": ("Sitting_Thumbs_Up", "Sitting_Disapproval", "lower_stretching"),
    "Patting": ("Patting", "Petting", "Petting_Animal"),
    "Reacting": (
        "Rifle_Punch", "Rejected", "Angry_Point", "Dismissing_Gesture", "Strong_Gesture", "Pointing_Gesture", "Loser",
        "Beckoning", "Pain_Gesture", "Terrified", "Surprised", "Clapping", "Rallying",
    ),
    "Talking": ("Standing_Arguing__1_", "Happy", "Plotting", "No", "Agreeing", "Talking", "Reaching_Out", "Insult"),
    "Upper Stretching": (
        "Counting", "Standing_2H_Cast_Spell_01", "Standing_Thumbs_Up", "Standing_1H_Magic_Attack_01", "Thinking",
        "Tpose_Take_001", "upper_stretching",
    ),
    "Walking": ("anim_Clip1", "Weight_Shift_Gesture", "walking"),
}  # fmt: skip
"""The paper's nine groups, in the order of its table, each with the dataset's action names."""

_GROUP_OF: Final = {action: group for group, actions in ACTION_GROUPS.items() for action in actions}


def action_name(action: str) -> str:
    """Return an action as the paper's groups list it, given how it stands in a frame's JSON.

    Anything from ``_mixamo_com`` on is dropped.
    """
    return action.split("_mixamo_com", 1)[0]


def action_group(action: str) -> str | None:
    """Return the paper's group of an action as it stands in a frame's JSON.

    None for an unknown action, which counts under All only.
    """
    return _GROUP_OF.get(action_name(action))
