"""Poses in the headset's frame."""

import numpy as np

from models.head import HeadPosition
from models.xr_egopose import HEAD, NECK


def test_a_pose_relative_to_its_neck_gets_its_place_before_the_camera():
    poses = np.random.default_rng(0).normal(0, 1, (50, 16, 3)).astype(np.float32)
    poses[:, HEAD] = -0.00668, -0.18734, 0.0467
    position = HeadPosition.of(poses, HEAD)
    np.testing.assert_allclose(position.mean, poses[0, HEAD], rtol=1e-6)
    np.testing.assert_allclose(position.spread, 0, atol=1e-8)
    np.testing.assert_allclose(position.place(poses - poses[:, NECK : NECK + 1]), poses, atol=1e-6)


def test_the_spread_is_the_standard_deviation_of_each_coordinate():
    poses = np.zeros((2, 16, 3))
    poses[1, HEAD] = 2, 4, 6
    assert HeadPosition.of(poses, HEAD) == HeadPosition((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
