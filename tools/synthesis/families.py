"""The motion families: key poses of a cycle, and the dataset's actions that move in this way."""

from __future__ import annotations

from typing import Final

from tools.synthesis.motion import Family, flipped, key

# A table: as many values in a line as fit.
# fmt: off

_STRIDE = key(hips=(0, -0.06, 0), spine=(6, 10, 0), LeftHand=(0.12, -0.85, -0.4), RightHand=(0.05, -0.6, 0.65),
              LeftFoot=(0.0, 0.0, 0.38, 18, 5), RightFoot=(0.0, 0.08, -0.42, -35, 5))
_PASSING = key(RightFoot=(0.0, 0.22, -0.1, -25, 5), hands=(0.14, -0.88, 0.12))
_SWAY = key(hips=(0.17, -0.04, 0), spine=(3, 0, 10), feet=(0.18, 0, 0, 0, 15), hands=(0.42, -0.5, 0.02), elbows=(25,))
_GUARD = key(hips=(0, -0.1, 0), spine=(14, 0, 0), hands=(-0.12, 0.0, 0.42), fists=(1,), LeftFoot=(0.08, 0, 0.25, 0, 10),
             RightFoot=(0.1, 0, -0.22, 0, 30))
_JAB = key(hips=(0, -0.12, 0.05), pelvis=(0, -15, 0), spine=(14, -25, 0), LeftHand=(-0.2, 0.05, 0.97),
           RightHand=(-0.15, -0.05, 0.4), fists=(1,), LeftFoot=(0.08, 0, 0.25, 0, 10),
           RightFoot=(0.1, 0, -0.22, -10, 30))
_CROSS = key(hips=(0, -0.12, 0.1), pelvis=(0, 25, 0), spine=(18, 35, 0), LeftHand=(-0.12, -0.05, 0.38),
             RightHand=(-0.25, 0.08, 0.97), fists=(1,), LeftFoot=(0.08, 0, 0.25, 0, 10),
             RightFoot=(0.1, 0, -0.22, -25, 10))
_ADDRESS = key(hips=(0, -0.1, -0.08), pelvis=(22, 0, 0), spine=(22, 0, 0), hands=(-0.3, -0.78, 0.42), fists=(0.9,),
               feet=(0.14, 0, 0, 0, 12))
_BACKSWING = key(hips=(-0.06, -0.08, -0.06), pelvis=(18, -30, 0), spine=(16, -45, 0), LeftHand=(-0.55, 0.2, 0.6),
                 RightHand=(0.35, 0.5, 0.3), fists=(0.9,), feet=(0.14, 0, 0, 0, 12))
_AIM = {"fists": (0.9,), "LeftFoot": (0.1, 0.0, 0.3, 0.0, 5.0), "RightFoot": (0.1, 0.0, -0.25, 0.0, 40.0)}
_SQUAT_FEET = (0.16, 0.0, 0.0, 0.0, 25.0)
_SEAT = {"hips": (0.0, -0.5, -0.45), "spine": (6.0, 0.0, 0.0), "feet": (0.06, 0.0, 0.15, 0.0, 8.0)}
_KNEEL = {"hips": (0.0, -0.5, -0.1), "LeftFoot": (0.06, 0.0, 0.3, 0.0, 5.0),
          "RightFoot": (0.06, 0.02, -0.42, -50.0, 5.0)}

FAMILIES: Final = (
    # Walking
    Family(("anim_Clip1", "walking"), (_STRIDE, _PASSING, flipped(_STRIDE), flipped(_PASSING))),
    Family(("Weight_Shift_Gesture",), (_SWAY, flipped(_SWAY))),
    # Gaming
    Family(("Boxing",), (_GUARD, _JAB, _GUARD, _CROSS)),
    Family(("Golf_Putt_Failure", "Golf_Putt_Failure__1_", "Golf_Putt_Victory", "Golf_Putt_Victory__1_"),
           (_ADDRESS, _BACKSWING, _ADDRESS, flipped(_BACKSWING))),
    Family(("Shooting_Gun", "Charge"), (
        key(spine=(6, -30, 0), hands=(-0.32, 0.02, 0.88), **_AIM),
        key(spine=(-2, -30, 0), hands=(-0.3, 0.25, 0.72), **_AIM),
        key(hips=(0, -0.22, 0), spine=(14, 35, 0), hands=(-0.32, -0.02, 0.85), **_AIM),
    )),
    Family(("Dribble",), (
        key(hips=(0, -0.2, -0.1), pelvis=(20, 0, 0), spine=(22, 0, 0), head=(-15, 0), elbows=(15,),
            LeftHand=(0.35, -0.25, 0.6), RightHand=(0.25, -0.2, 0.55), feet=(0.15, 0, 0.05, 0, 15)),
        key(hips=(0, -0.28, -0.12), pelvis=(24, 0, 0), spine=(26, 0, 0), head=(-15, 0), elbows=(15,),
            LeftHand=(0.35, -0.3, 0.55), RightHand=(0.2, -0.85, 0.35), feet=(0.15, 0, 0.05, 0, 15)),
    )),
    Family(("Baseball_Umpire", "Revealing_Dice"), (
        key(hips=(0, -0.35, -0.25), pelvis=(25, 0, 0), spine=(20, 0, 0), hands=(0.12, -0.55, 0.6),
            feet=(0.2, 0, 0, 0, 20)),
        key(hips=(0, -0.05, 0), LeftHand=(0.1, -0.7, 0.3), RightHand=(0.1, 0.25, 0.75), fists=(0.8,),
            feet=(0.2, 0, 0, 0, 20)),
        key(hips=(0, -0.08, 0), spine=(0, -35, 0), LeftHand=(0.15, -0.6, 0.4), RightHand=(0.9, 0.2, 0.1), fists=(0.9,),
            feet=(0.2, 0, 0, 0, 20)),
    )),
    # Gesticulating
    Family(("Waving_Gesture", "Hand_Raising", "Fist_Pump"), (
        key(RightHand=(0.55, 0.45, 0.35), RightFist=(0,), spine=(0, 0, -4)),
        key(RightHand=(0.1, 0.7, 0.5), RightFist=(0,), spine=(0, 0, 4)),
        key(RightHand=(0.7, 0.15, 0.4), RightFist=(0,), hips=(0.06, 0, 0)),
    )),
    Family(("Pointing", "Arm_Gesture", "Counting__1_"), (
        key(RightHand=(0.05, 0.05, 0.97), RightFist=(0.6,), spine=(8, 15, 0)),
        key(RightHand=(0.75, 0.0, 0.55), RightFist=(0.6,), spine=(4, -25, 0), head=(4, -12)),
        key(RightHand=(-0.1, -0.3, 0.5), RightFist=(0.6,), LeftHand=(-0.05, -0.45, 0.5)),
    )),
    Family(("Two_Hand_Spell_Casting", "Opening_A_Lid", "Happy_Hand_Gesture"), (
        key(hips=(0, -0.08, 0), hands=(-0.1, -0.5, 0.4)),
        key(spine=(-6, 0, 0), hands=(0.4, 0.5, 0.55)),
        key(hips=(0, -0.12, 0.05), spine=(14, 0, 0), hands=(0.0, 0.0, 0.96), feet=(0.1, 0, 0.05, 0, 10)),
    )),
    Family(("Standing_Arguing", "Angry_Gesture", "Taunt_Gesture", "Crazy_Gesture", "Taking_Punch"), (
        key(spine=(12, 15, 0), LeftHand=(0.3, -0.2, 0.75), RightHand=(0.6, -0.35, 0.4), LeftFoot=(0.06, 0, 0.3, 0, 8),
            RightFoot=(0.06, 0, -0.15, 0, 20)),
        key(spine=(-8, -15, 0), LeftHand=(0.75, -0.1, 0.2), RightHand=(0.7, 0.05, 0.35), head=(-6, 0),
            LeftFoot=(0.06, 0, 0.3, 0, 8), RightFoot=(0.06, 0, -0.15, 0, 20)),
        key(hips=(0, -0.1, -0.05), spine=(26, 0, 0), LeftHand=(0.2, -0.5, 0.6), RightHand=(0.1, 0.1, 0.8),
            LeftFoot=(0.06, 0, 0.3, 0, 8), RightFoot=(0.06, 0, -0.15, 0, 20)),
    )),
    # Talking
    Family(("Standing_Arguing__1_", "Talking", "Reaching_Out", "Happy", "Agreeing"), (
        key(LeftHand=(0.15, -0.4, 0.55), RightHand=(0.15, -0.75, 0.3), spine=(6, 8, 0)),
        key(LeftHand=(0.45, -0.3, 0.6), RightHand=(0.45, -0.3, 0.6), head=(8, 6)),
        key(LeftHand=(0.15, -0.75, 0.3), RightHand=(0.1, -0.25, 0.7), spine=(6, -10, 0), hips=(-0.07, 0, 0)),
    )),
    Family(("Plotting", "No", "Insult"), (
        key(hands=(-0.42, -0.35, 0.38), elbows=(20,), spine=(14, 0, 0), fists=(0.5,)),
        key(hands=(-0.3, -0.2, 0.5), elbows=(35,), head=(6, 18), spine=(18, 12, 0), fists=(0.5,)),
        key(LeftHand=(-0.42, -0.4, 0.36), RightHand=(0.4, -0.45, 0.5), head=(4, -18), spine=(8, -12, 0)),
    )),
    # Upper Stretching
    Family(("Tpose_Take_001", "upper_stretching"), (
        key(hands=(0.98, 0.0, 0.05), fists=(0,)),
        key(hands=(0.2, 0.93, 0.15), fists=(0,), spine=(-6, 0, 0)),
        key(spine=(6, 0, 30), hips=(-0.08, 0, 0), LeftHand=(0.1, 0.95, 0.2), RightHand=(0.3, -0.7, 0.2),
            feet=(0.16, 0, 0, 0, 12)),
        key(hands=(-0.3, 0.05, 0.9), spine=(16, 0, 0)),
    )),
    Family(("Standing_2H_Cast_Spell_01", "Standing_1H_Magic_Attack_01"), (
        key(spine=(-4, -30, 0), LeftHand=(0.2, 0.0, 0.85), RightHand=(0.5, 0.55, -0.2), LeftFoot=(0.05, 0, 0.3, 0, 5),
            RightFoot=(0.1, 0, -0.2, 0, 35)),
        key(hips=(0, -0.15, 0.12), spine=(18, 30, 0), LeftHand=(0.4, -0.3, 0.1), RightHand=(0.0, 0.1, 0.97),
            LeftFoot=(0.05, 0, 0.4, 0, 5), RightFoot=(0.1, 0.02, -0.3, -20, 30)),
    )),
    Family(("Standing_Thumbs_Up", "Thinking", "Counting"), (
        key(LeftHand=(-0.5, -0.45, 0.3), RightHand=(-0.15, 0.12, 0.32), fists=(0.8,), head=(10, 8)),
        key(LeftHand=(-0.45, -0.5, 0.3), RightHand=(0.15, -0.05, 0.75), fists=(0.9,), spine=(0, 8, 0)),
    )),
    # Greeting
    Family(("Quick_Formal_Bow", "Standing_Greeting"), (
        key(hands=(0.1, -0.93, 0.15)),
        key(hips=(0, -0.02, -0.16), pelvis=(40, 0, 0), spine=(30, 0, 0), hands=(0.05, -0.7, 0.6)),
        key(hips=(0, 0, -0.05), spine=(14, 0, 0), LeftHand=(0.16, -0.9, 0.1), RightHand=(-0.45, -0.3, 0.4)),
    )),
    Family(("Shaking_Hands_2", "Hands_Forward_Gesture", "Shake_Fist"), (
        key(RightHand=(-0.15, -0.35, 0.88), spine=(10, 12, 0), RightFoot=(0.05, 0, 0.25, 0, 5)),
        key(RightHand=(-0.15, 0.0, 0.85), spine=(10, 12, 0), RightFoot=(0.05, 0, 0.25, 0, 5)),
        key(RightHand=(0.1, -0.65, 0.5), LeftHand=(0.0, -0.2, 0.8), spine=(6, -8, 0)),
    )),
    # Reacting
    Family(("Clapping", "Rallying"), (
        key(hands=(-0.36, -0.08, 0.6), fists=(0,), elbows=(15,)),
        key(hands=(0.4, 0.1, 0.65), fists=(0,), elbows=(15,), spine=(-2, 0, 0)),
    )),
    Family(("Terrified", "Surprised", "Loser"), (
        key(hips=(0, -0.3, -0.12), pelvis=(12, 0, 0), spine=(34, 0, 0), head=(14, 0), hands=(0.12, 0.2, 0.42),
            elbows=(45,), feet=(0.02, 0, 0, 0, 0)),
        key(spine=(-10, 10, 0), hands=(0.5, 0.3, 0.4), fists=(0,), LeftFoot=(0.06, 0, -0.3, 0, 15)),
    )),
    Family(("Pain_Gesture", "Rejected"), (
        key(hips=(0, -0.14, -0.08), pelvis=(15, 0, 0), spine=(38, 0, 10), hands=(-0.42, -0.5, 0.25), fists=(0.7,)),
        key(hips=(0.08, -0.06, 0), spine=(20, 20, -10), LeftHand=(-0.42, -0.5, 0.25), RightHand=(0.3, -0.8, 0.35)),
    )),
    Family(("Angry_Point", "Pointing_Gesture", "Beckoning", "Dismissing_Gesture", "Strong_Gesture", "Rifle_Punch"), (
        key(hips=(0, -0.1, 0.1), spine=(16, 20, 0), RightHand=(0.0, -0.1, 0.98), LeftHand=(0.3, -0.85, -0.2),
            LeftFoot=(0.06, 0, -0.3, -15, 15), RightFoot=(0.05, 0, 0.35, 0, 0)),
        key(spine=(-4, -20, 0), RightHand=(0.5, -0.1, -0.1), LeftHand=(0.1, -0.3, 0.7), fists=(0.7,),
            LeftFoot=(0.06, 0, -0.2, 0, 15), RightFoot=(0.05, 0.0, 0.2, 0, 0)),
        key(RightHand=(0.85, -0.3, 0.35), LeftHand=(0.2, -0.8, 0.3), head=(4, -12), RightFoot=(0.05, 0.0, 0.2, 0, 0)),
    )),
    # Lower Stretching
    Family(("Sitting_Thumbs_Up", "Sitting_Disapproval"), (
        key(hands=(0.0, -0.55, 0.5), **_SEAT),
        key(LeftHand=(0.0, -0.55, 0.5), RightHand=(0.1, 0.0, 0.8), fists=(0.9,), **_SEAT),
        key(LeftHand=(0.5, -0.3, 0.45), RightHand=(0.5, -0.3, 0.45), head=(4, 15), **_SEAT),
    )),
    Family(("lower_stretching",), (
        key(hips=(0, -0.55, -0.12), pelvis=(10, 0, 0), spine=(14, 0, 0), hands=(0.0, -0.15, 0.9), feet=_SQUAT_FEET),
        key(hips=(0.26, -0.34, 0), spine=(12, 0, 0), hands=(-0.3, -0.45, 0.5), LeftFoot=(0.32, 0, 0, 0, 25),
            RightFoot=(0.6, 0, 0, 0, 10)),
        key(hips=(0, -0.04, -0.2), pelvis=(55, 0, 0), spine=(36, 0, 0), hands=(-0.1, -0.55, 0.8), feet=_SQUAT_FEET),
        key(hips=(0, -0.38, 0.1), hands=(0.1, -0.5, 0.55), LeftFoot=(0.05, 0, 0.55, 0, 5),
            RightFoot=(0.05, 0.08, -0.6, -45, 5)),
    )),
    # Patting
    Family(("Patting",), (
        key(hips=(0, -0.18, -0.1), pelvis=(28, 0, 0), spine=(30, 12, 0), RightHand=(0.0, -0.75, 0.6)),
        key(hips=(0, -0.14, -0.1), pelvis=(26, 0, 0), spine=(26, 6, 0), RightHand=(0.1, -0.4, 0.8)),
    )),
    Family(("Petting", "Petting_Animal"), (
        key(spine=(24, 10, 0), LeftHand=(0.1, -0.5, 0.55), RightHand=(0.15, -0.65, 0.7), **_KNEEL),
        key(spine=(30, -14, 0), LeftHand=(0.1, -0.5, 0.55), RightHand=(0.6, -0.6, 0.5), **_KNEEL),
        key(spine=(20, 16, 0), LeftHand=(0.3, -0.6, 0.5), RightHand=(-0.3, -0.45, 0.7), **_KNEEL),
    )),
)
"""Every action of `models.skeleton.ACTION_GROUPS` belongs to exactly one family."""
