import numpy as np

from models.skeleton import action_group
from models.xr_egopose import ACTION_GROUPS, JOINTS, NECK, SKELETON


def test_joints():
    assert len(JOINTS) == 16
    assert [JOINTS[i] for i in SKELETON.heatmap_joints] == [name for name in JOINTS if name != "Head"]
    assert {*SKELETON.upper_body, *SKELETON.lower_body} == set(range(16))
    assert [JOINTS[i] for i in SKELETON.lower_body[:2]] == ["LeftUpLeg", "LeftLeg"]


def test_mirror_exchanges_left_and_right_and_is_its_own_inverse():
    mirror = np.array(SKELETON.flip_indices)
    np.testing.assert_array_equal(mirror[mirror], np.arange(16))
    for i, j in enumerate(SKELETON.flip_indices):
        assert JOINTS[i].replace("Left", "L") in (JOINTS[j].replace("Right", "L"), JOINTS[i])
        assert (JOINTS[i] == JOINTS[j]) == (not JOINTS[i].startswith(("Left", "Right")))


def test_bones_are_symmetric():
    bones = {frozenset(bone) for bone in SKELETON.bones}
    assert len(bones) == 14
    assert {frozenset((SKELETON.flip_indices[a], SKELETON.flip_indices[b])) for a, b in SKELETON.bones} == bones


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
    assert [joint for joint, parent in enumerate(SKELETON.parents) if joint == parent] == [NECK]
    assert all(parent < joint for joint, parent in enumerate(SKELETON.parents) if joint != NECK)
    assert all(
        SKELETON.flip_indices[SKELETON.parents[joint]] == SKELETON.parents[SKELETON.flip_indices[joint]]
        for joint in range(16)
    )
    torso = {("LeftArm", "LeftUpLeg"), ("RightArm", "RightUpLeg"), ("LeftArm", "RightArm")}
    drawn = {(JOINTS[a], JOINTS[b]) for a, b in SKELETON.bones} - torso
    assert drawn <= {(JOINTS[parent], JOINTS[joint]) for joint, parent in enumerate(SKELETON.parents)}
