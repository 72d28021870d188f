import numpy as np

from models.skeleton import (
    ACTION_GROUPS,
    BONES,
    FLIP_INDICES,
    HEATMAP_JOINTS,
    JOINTS,
    LOWER_BODY,
    NECK,
    PARENTS,
    UPPER_BODY,
    action_group,
)


def test_joints():
    assert len(JOINTS) == 16
    assert [JOINTS[i] for i in HEATMAP_JOINTS] == [name for name in JOINTS if name != "Head"]
    assert {*UPPER_BODY, *LOWER_BODY} == set(range(16))
    assert [JOINTS[i] for i in LOWER_BODY[:2]] == ["LeftUpLeg", "LeftLeg"]


def test_mirror_exchanges_left_and_right_and_is_its_own_inverse():
    mirror = np.array(FLIP_INDICES)
    np.testing.assert_array_equal(mirror[mirror], np.arange(16))
    for i, j in enumerate(FLIP_INDICES):
        assert JOINTS[i].replace("Left", "L") in (JOINTS[j].replace("Right", "L"), JOINTS[i])
        assert (JOINTS[i] == JOINTS[j]) == (not JOINTS[i].startswith(("Left", "Right")))


def test_bones_are_symmetric():
    bones = {frozenset(bone) for bone in BONES}
    assert len(bones) == 14
    assert {frozenset((FLIP_INDICES[a], FLIP_INDICES[b])) for a, b in BONES} == bones


def test_action_groups():
    assert list(ACTION_GROUPS) == sorted(ACTION_GROUPS)
    names = [action for actions in ACTION_GROUPS.values() for action in actions]
    assert len(ACTION_GROUPS) == 9
    assert len(names) == len(set(names)) == 66
    assert action_group("Dribble") == "Gaming"
    assert action_group("lower_stretching_mixamo_com_2") == "Lower Stretching"
    assert action_group("Counting__1_") == "Gesticulating"
    assert action_group("Swimming") is None


def test_the_kinematic_tree_has_its_root_first_and_is_symmetric():
    assert [joint for joint, parent in enumerate(PARENTS) if joint == parent] == [NECK]
    assert all(parent < joint for joint, parent in enumerate(PARENTS) if joint != NECK)
    assert all(FLIP_INDICES[PARENTS[joint]] == PARENTS[FLIP_INDICES[joint]] for joint in range(16))
    torso = {("LeftArm", "LeftUpLeg"), ("RightArm", "RightUpLeg"), ("LeftArm", "RightArm")}
    drawn = {(JOINTS[a], JOINTS[b]) for a, b in BONES} - torso
    assert drawn <= {(JOINTS[parent], JOINTS[joint]) for joint, parent in enumerate(PARENTS)}
