import dataclasses

import numpy as np
import pytest

from models.skeleton import Skeleton, action_group
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
    assert action_group("Dribble", ACTION_GROUPS) == "Gaming"
    assert action_group("lower_stretching_mixamo_com_2", ACTION_GROUPS) == "Lower Stretching"
    assert action_group("Counting__1_", ACTION_GROUPS) == "Gesticulating"
    assert action_group("Swimming", ACTION_GROUPS) is None


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


def test_a_skeleton_is_described_by_names():
    tree = {"Hand.L": "Body", "Body": None, "hand_left": "Body", "hand_right": "Body", "Hand.R": "Body", "Lip": "Body"}
    skeleton = Skeleton.of(tree, without_heatmap=("Lip",), head="Lip", upper_body=("Lip", "Body"))
    assert (skeleton.root, skeleton.head, skeleton.upper_body, skeleton.lower_body) == (1, 5, (5, 1), ())
    assert skeleton.bones == ((1, 0), (1, 2), (1, 3), (1, 4), (1, 5))
    assert skeleton.mirror_pairs == ((0, 4), (2, 3))
    assert skeleton.flip_indices == (4, 1, 3, 2, 0, 5)
    assert skeleton.heatmap_names == ("Hand.L", "Body", "hand_left", "hand_right", "Hand.R")
    assert skeleton.heatmap_slices == (slice(0, 5),)
    explicit = Skeleton.of(tree, bones=[("Body", "Lip")], mirror_pairs=[("hand_left", "Hand.R")])
    assert (explicit.bones, explicit.mirror_pairs) == (((1, 5),), ((2, 4),))


def test_children_may_stand_before_their_parents():
    skeleton = Skeleton.of({"hand": "arm", "arm": "body", "body": None, "leg": "body"})
    assert skeleton.parents == (1, 2, 2, 2)
    assert skeleton.tree_order == (2, 1, 3, 0)


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        (lambda: Skeleton.of({"a": None, "b": None}), "no tree"),
        (lambda: Skeleton.of({"a": "b", "b": "a"}), "no tree"),
        (lambda: Skeleton.of({"a": None, "b": "c"}), "c is none of its joints a, b"),
        (lambda: Skeleton.of({"a": None}, head="Head"), "Head is none of its joints a"),
        (lambda: Skeleton.of({"a": None}, without_heatmap=["a"]), "heatmap joints are none"),
        (lambda: Skeleton.of({"a": None, "b": "a"}, mirror_pairs=[("a", "b"), ("b", "a")]), "two mirror pairs"),
        (lambda: dataclasses.replace(SKELETON, joints=("Neck",) * 16), "joint twice"),
        (lambda: dataclasses.replace(SKELETON, parents=(0,)), "one parent for each"),
        (lambda: dataclasses.replace(SKELETON, bones=((0, 16),)), "beyond its 16"),
        (lambda: dataclasses.replace(SKELETON, heatmap_joints=(1, 0)), "order of the joints"),
    ],
)
def test_what_is_no_skeleton_is_refused(described, reason):
    with pytest.raises(ValueError, match=reason):
        described()
