import cv2
import numpy as np
import pytest

from models.metrics import adjust_bones, align, auc, bone_aligned_errors, bone_length_errors, joint_errors, pck, rescale
from models.xr_egopose import SKELETON


@pytest.fixture
def poses():
    return np.random.default_rng(0).normal(size=(5, 16, 3))


def similar(poses, *, mirrored=False):
    """Each pose turned, scaled and moved in its own way."""
    random = np.random.default_rng(1)
    moved = np.empty_like(poses)
    for i, pose in enumerate(poses):
        rotation, _ = cv2.Rodrigues(random.normal(size=3) * 2)
        if mirrored:
            rotation = rotation @ np.diag([-1.0, 1, 1])
        moved[i] = random.uniform(0.3, 3) * pose @ rotation.T + random.normal(size=3) * 10
    return moved


@pytest.mark.parametrize("dimensions", [2, 3])
def test_joint_errors_are_distances(dimensions):
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 4, 16, dimensions)).astype(np.float32)
    found = joint_errors(a, b)
    for frame in range(4):
        for joint in range(16):
            square = sum((float(a[frame, joint, k]) - float(b[frame, joint, k])) ** 2 for k in range(dimensions))
            assert found[frame, joint] == pytest.approx(square**0.5, abs=1e-6)


def test_procrustes_undoes_turn_scale_and_shift(poses):
    assert joint_errors(similar(poses), poses).min() > 0.1
    np.testing.assert_allclose(joint_errors(align(similar(poses), poses), poses), 0, atol=1e-9)


def test_a_mirrored_pose_is_not_the_same_pose(poses):
    assert joint_errors(align(similar(poses, mirrored=True), poses), poses).mean(1).min() > 0.1


def test_alignment_is_the_best_there_is(poses):
    """No small turn, scale or shift of the aligned pose comes closer to the truth."""
    random = np.random.default_rng(3)
    true = poses + random.normal(size=poses.shape) * 0.3
    aligned = align(similar(poses), true)
    best = np.square(aligned - true).sum((1, 2))
    for _ in range(50):
        rotation, _ = cv2.Rodrigues(random.normal(size=3) * 0.02)
        center = aligned.mean(1, keepdims=True)
        scale, shift = 1 + random.normal() * 0.02, random.normal(size=3) * 0.02
        other = scale * (aligned - center) @ rotation.T + center + shift
        assert (np.square(other - true).sum((1, 2)) >= best).all()


def test_a_pose_without_extent_is_moved_to_the_center(poses):
    aligned = align(np.ones_like(poses), poses)
    np.testing.assert_allclose(aligned, np.broadcast_to(poses.mean(1, keepdims=True), poses.shape), atol=1e-12)


def test_alignment_in_closed_form():
    """A unit square that one corner leaves by d: turn and scale can be worked out by hand.

    With corners at complex numbers c_k and the corner 1 moved to 1 + d, both about their means, the best similarity is
    a = sum(conj(p) t) / sum(|p|^2), t the truth and p the prediction.
    """
    true = np.array([1, 1j, -1, -1j])
    predicted = true + np.array([0.5 + 0.25j, 0, 0, 0])
    p, t = predicted - predicted.mean(), true - true.mean()
    best = (np.conj(p) @ t) / (np.abs(p) ** 2).sum() * p + true.mean()
    as_pose = [np.stack([z.real, z.imag, np.zeros(4)], axis=1)[None] for z in (predicted, true)]
    np.testing.assert_allclose(joint_errors(align(*as_pose), as_pose[1])[0], np.abs(best - true), atol=1e-12)


def test_found_joints():
    errors = np.array([[0.0, 149.9, 150.0, 1000.0], [0.0, 0.0, 0.0, 0.0], [4.9, 5.0, 75.0, 150.0]])
    np.testing.assert_allclose(pck(errors), [50, 100, 75])
    shares = [[sum(e < t for e in row) / 4 for t in range(0, 151, 5)] for row in errors]
    np.testing.assert_allclose(auc(errors), 100 * np.mean(shares, axis=1))
    assert auc(errors)[1] == pytest.approx(100 * 30 / 31)


def test_bones_that_grow(poses):
    np.testing.assert_allclose(bone_length_errors(poses, poses, SKELETON), 0)
    moved = poses + 3.0
    np.testing.assert_allclose(bone_length_errors(moved, poses, SKELETON), 0, atol=1e-12)
    doubled = bone_length_errors(2 * poses, poses, SKELETON)
    assert doubled.shape == (5, 14)
    np.testing.assert_allclose(doubled[:, 0], np.linalg.norm(poses[:, 1] - poses[:, 0], axis=1))


def test_a_scale_is_undone_and_nothing_else(poses):
    poses = poses - poses[:, :1]
    np.testing.assert_allclose(rescale(2.5 * poses, poses), poses, atol=1e-12)
    turned = poses @ cv2.Rodrigues(np.array([0.3, -0.2, 0.5]))[0].T
    scaled = rescale(turned, poses)
    best = np.square(scaled - poses).sum((1, 2))
    assert best.min() > 0.1
    for factor in (0.99, 1.01):  # the scale is the best there is
        assert (np.square(factor * scaled - poses).sum((1, 2)) > best).all()
    assert (rescale(np.zeros_like(poses), poses) == 0).all()


def test_bones_get_given_lengths_and_keep_their_directions(poses):
    lengths = np.arange(1.0, 17)
    adjusted = adjust_bones(poses, lengths, SKELETON)
    np.testing.assert_allclose(adjusted[:, 0], poses[:, 0])
    for joint, parent in enumerate(SKELETON.parents):
        if joint == parent:
            continue
        bone, before = (p[:, joint] - p[:, parent] for p in (adjusted, poses))
        np.testing.assert_allclose(np.linalg.norm(bone, axis=1), lengths[joint])
        cosine = (bone * before).sum(1) / np.linalg.norm(bone, axis=1) / np.linalg.norm(before, axis=1)
        np.testing.assert_allclose(cosine, 1)
    assert np.isfinite(adjust_bones(np.zeros_like(poses), lengths, SKELETON)).all()


def test_the_same_posture_of_a_body_of_other_proportions_is_the_same_bone_aligned_pose(poses):
    other = adjust_bones(poses, np.random.default_rng(3).uniform(0.5, 2, 16), SKELETON)
    assert joint_errors(align(other, poses), poses).max() > 0.1
    np.testing.assert_allclose(bone_aligned_errors(similar(other), poses, SKELETON), 0, atol=1e-9)
    # where all bodies are alike the error is that of Procrustes, also of a pose that is wrong
    alike, wrong = (adjust_bones(some, np.ones(16), SKELETON) for some in (poses, poses[::-1]))
    np.testing.assert_allclose(
        bone_aligned_errors(wrong, alike, SKELETON), joint_errors(align(wrong, alike), alike), atol=1e-12
    )
