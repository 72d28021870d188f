"""The released dataset: its camera, its skeleton, and the groups of its actions.

Source: Tome et al., "xR-EgoPose: Egocentric 3D Human Pose from an HMD Camera", ICCV 2019, and the authors' data loader.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.camera import FisheyeCamera, Floats
from models.skeleton import Skeleton

NAME: Final = "xR-EgoPose"

CAMERA: Final = FisheyeCamera(
    width=1280,
    height=800,
    fx=352.59619801644876,
    fy=352.70276325061578,
    cx=654.6810228318458,
    cy=400.952228031277,
    distortion=(-0.05631891929412012, -0.0038333424842925286, -0.00024681888617308917, -0.00012153386798050158),
)
"""The camera, given by the dataset's author in issue 7 of the official repository."""

SKELETON: Final = Skeleton.of(
    # head, arms and thighs hang on Neck, since the joints of the spine are not among the 16
    {
        "Neck": None, "Head": "Neck",
        "LeftArm": "Neck", "LeftForeArm": "LeftArm", "LeftHand": "LeftForeArm",
        "RightArm": "Neck", "RightForeArm": "RightArm", "RightHand": "RightForeArm",
        "LeftUpLeg": "Neck", "LeftLeg": "LeftUpLeg", "LeftFoot": "LeftLeg", "LeftToeBase": "LeftFoot",
        "RightUpLeg": "Neck", "RightLeg": "RightUpLeg", "RightFoot": "RightLeg", "RightToeBase": "RightFoot",
    },
    bones=(
        ("Neck", "Head"),
        ("LeftArm", "LeftForeArm"), ("LeftForeArm", "LeftHand"),
        ("RightArm", "RightForeArm"), ("RightForeArm", "RightHand"),
        ("LeftUpLeg", "LeftLeg"), ("LeftLeg", "LeftFoot"), ("LeftFoot", "LeftToeBase"),
        ("RightUpLeg", "RightLeg"), ("RightLeg", "RightFoot"), ("RightFoot", "RightToeBase"),
        ("LeftArm", "LeftUpLeg"), ("RightArm", "RightUpLeg"), ("LeftArm", "RightArm"),
    ),
    without_heatmap=("Head",),
    head="Head",
    upper_body=(
        "Neck", "Head", "LeftArm", "LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand",
    ),
    lower_body=(
        "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase", "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase",
    ),
)  # fmt: skip
"""16 joints in training order, their names the dataset's without ``mixamorig:``. The camera sits on Head and cannot see
it."""

JOINTS: Final = SKELETON.joints
NECK: Final = SKELETON.root
HEAD: Final = JOINTS.index("Head")

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


def euler_to_rotation(degrees: Floats) -> NDArray[np.float64]:
    """Return the rotation matrix (3, 3) of Euler angles (3,) in degrees about the static axes x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def world_to_camera(translation: Floats, degrees: Floats) -> NDArray[np.float64]:
    """Return the 4x4 matrix from world to camera coordinates, in the unit of ``translation``.

    The author's formula: the inverse of the camera's pose, then diag(1, -1, -1, 1), which turns the modelling
    software's axes (y up, looking along -z) into OpenCV's. ``translation`` (3,) and ``degrees`` (3,) are the
    frame's ``camera.trans`` and ``camera.rot``.
    """
    pose = np.eye(4)
    pose[:3, :3] = euler_to_rotation(degrees)
    pose[:3, 3] = translation
    return np.asarray(np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(pose), np.float64)
