"""Where the body is seen: as in the release, whose numbers stand in docs/data.md."""

import json

import numpy as np
import pytest

from models.camera import UNSEEN
from models.xr_egopose import CAMERA, JOINTS
from tools.dataset.layout import SUBJECTS, read_labels
from tools.synthesis.frame_generator import HEAD, FrameGenerator

FRAMES = 36
LEFT_OF_SQUARE = 240
HANDS = [JOINTS.index("LeftHand"), JOINTS.index("RightHand")]

REAL = {
    # 77 frames of one subject, each joint averaged with the other side's mirror image: mean u, v, deviation u, v
    "Neck": (407, 55, 33, 11),
    "LeftArm": (591, 184, 87, 120),
    "LeftForeArm": (610, 260, 109, 165),
    "LeftHand": (635, 343, 141, 202),
    "LeftUpLeg": (437, 321, 47, 69),
    "LeftLeg": (440, 354, 48, 75),
    "LeftFoot": (437, 362, 48, 77),
    "LeftToeBase": (440, 388, 55, 77),
}
MIRROR = 407
"""The column about which the sides are mirror images (pixels of the square)."""


@pytest.fixture(scope="module")
def poses():
    """Pixels (N, 16, 2) of the center square and points (N, 16, 3) in metres, of every subject."""
    labels = [
        read_labels(json.dumps(frame.labels).encode())
        for subjects in SUBJECTS.values()
        for subject in subjects
        for frame in FrameGenerator(subject, 1, FRAMES, 0).frames(1, FRAMES)
    ]
    pixels = np.stack([label.joints_2d for label in labels]) - [LEFT_OF_SQUARE, 0]
    return pixels, np.stack([label.joints_3d for label in labels])


def joint(array, name):
    return array[:, JOINTS.index(name)]


def test_the_head_is_the_same_point_in_every_frame(poses):
    pixels, points = poses
    np.testing.assert_allclose(joint(points, "Head") * 100, np.tile(HEAD, (len(points), 1)), atol=5e-6)
    np.testing.assert_allclose(joint(pixels, "Head"), np.tile([400.0, -13.4], (len(pixels), 1)), atol=0.3)
    assert joint(points, "Neck").std(axis=0).min() > 0.003  # the head turns against the neck


def test_the_picture_is_the_right_way_up(poses):
    pixels, points = poses
    for part in ("UpLeg", "Foot"):
        assert (joint(pixels, f"Left{part}")[:, 0] > joint(pixels, f"Right{part}")[:, 0]).mean() > 0.8
    assert joint(pixels, "LeftArm")[:, 0].mean() > joint(pixels, "RightArm")[:, 0].mean() + 300
    assert (joint(pixels, "LeftFoot")[:, 1] > joint(pixels, "Neck")[:, 1]).mean() > 0.99
    assert 1.1 < joint(points, "LeftFoot")[:, 2].mean() < 1.5


@pytest.mark.parametrize("name", REAL)
def test_joints_spread_as_in_the_release(poses, name):
    pixels, _ = poses
    other = joint(pixels, name.replace("Left", "Right")) * [-1, 1] + [2 * MIRROR, 0]
    both = np.concatenate([joint(pixels, name), other])
    mean, spread = both.mean(axis=0), both.std(axis=0)
    np.testing.assert_allclose(mean, REAL[name][:2], atol=30)
    if name != "Neck":  # the one subject's neck leans to its right
        np.testing.assert_allclose(spread, REAL[name][2:], rtol=0.35)


def test_as_many_hands_are_outside_the_square_and_some_above_the_camera(poses):
    pixels, points = poses
    hands = pixels[:, HANDS]
    outside = ((hands < -0.5) | (hands >= 799.5)).any(axis=-1)
    assert 0.12 < outside.mean() < 0.18
    seen = CAMERA.visibility(pixels + np.array([LEFT_OF_SQUARE, 0]), points)
    unseen = seen[:, HANDS] == UNSEEN
    assert 0.02 < unseen.mean() < 0.16
    # the polynomial folds back beyond 105 degrees: there are labels inside the image circle where no hand is
    radius = np.linalg.norm(hands[unseen] + [LEFT_OF_SQUARE - CAMERA.cx, -CAMERA.cy], axis=-1)
    assert (radius < 455).any()


def test_poses_differ_much(poses):
    _, points = poses
    relative = points - points[:, :1]
    assert np.linalg.norm(relative - relative.mean(axis=0), axis=-1).mean() > 0.12
