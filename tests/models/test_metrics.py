import cv2
import numpy as np
import pytest

from models.metrics import align, joint_errors, pa_joint_errors


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
    np.testing.assert_allclose(pa_joint_errors(similar(poses), poses), 0, atol=1e-9)


def test_a_mirrored_pose_is_not_the_same_pose(poses):
    assert pa_joint_errors(similar(poses, mirrored=True), poses).mean(1).min() > 0.1


def test_alignment_is_the_best_there_is(poses):
    """No small turn, scale or shift of the aligned pose comes closer to the truth."""
    random = np.random.default_rng(3)
    true = poses + random.normal(size=poses.shape) * 0.3
    aligned = align(similar(poses), true)
    best = np.square(aligned - true).sum((1, 2))
    for _ in range(50):
        rotation, _ = cv2.Rodrigues(random.normal(size=3) * 0.02)
        centre = aligned.mean(1, keepdims=True)
        scale, shift = 1 + random.normal() * 0.02, random.normal(size=3) * 0.02
        other = scale * (aligned - centre) @ rotation.T + centre + shift
        assert (np.square(other - true).sum((1, 2)) >= best).all()


def test_a_pose_without_extent_is_moved_to_the_centre(poses):
    aligned = align(np.ones_like(poses), poses)
    np.testing.assert_allclose(aligned, np.broadcast_to(poses.mean(1, keepdims=True), poses.shape), atol=1e-12)
