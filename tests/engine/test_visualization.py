import functools

import numpy as np
import pytest

from engine import visualization
from engine.visualization import BLUE, ORANGE
from models.xr_egopose import JOINTS, SKELETON

GRAY = 90

overlay = functools.partial(visualization.overlay, skeleton=SKELETON)
overlay_grid = functools.partial(visualization.overlay_grid, skeleton=SKELETON)


def blank(size=256):
    return np.full((size, size, 3), GRAY, np.uint8)


def nowhere(joints=16):
    return np.full((joints, 2), np.nan)


def only(places, joints=16):
    """A pose of which only {joint: (x, y)} is known."""
    pose = nowhere(joints)
    for joint, place in places.items():
        pose[joint] = place
    return pose


def test_prediction_is_orange_and_truth_is_blue():
    image = blank()
    drawn = overlay(image, only({3: (60, 100)}), only({3: (180, 40)}))
    assert tuple(drawn[100, 60]) == ORANGE
    assert tuple(drawn[40, 180]) == BLUE
    assert (image == GRAY).all()
    assert (drawn[:, 100:140] == GRAY).all()


def test_the_prediction_lies_on_the_truth_and_both_are_seen():
    places = only({2: (60, 128), 3: (200, 128)})
    drawn = overlay(blank(), places, places)
    assert tuple(drawn[128, 130]) == ORANGE
    for side in (drawn[124:128, 130], drawn[129:133, 130]):
        assert (np.abs(side.astype(int) - BLUE).max(1) < 80).any()


@pytest.mark.parametrize("place", [(100.0, 80.0), (100.3, 80.7), (50.5, 200.1)])
def test_dots_are_centered_between_pixels(place):
    drawn = overlay(blank(), only({7: place}))
    weight = np.abs(drawn[:, :, 2].astype(float) - GRAY)
    rows, columns = np.indices(weight.shape)
    center = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
    assert center == pytest.approx(place, abs=0.1)


@pytest.mark.parametrize("place", [(np.nan, 5), (5, np.inf), (-np.inf, 5), (1e30, 1e30), (-5e4, 20), (20, 2e9)])
def test_positions_that_cannot_be_drawn_are_skipped(place):
    assert (overlay(blank(), only({2: place})) == GRAY).all()
    with_one = overlay(blank(), only({2: place, 3: (60, 60)}))
    np.testing.assert_array_equal(with_one, overlay(blank(), only({3: (60, 60)})))


def test_a_bone_to_a_joint_outside_ends_at_the_border():
    drawn = overlay(blank(), only({2: (200, 128), 3: (330, 128)}))
    assert tuple(drawn[128, 255]) == ORANGE


def test_fifteen_joints_are_those_without_head():
    left_arm, left_fore_arm = JOINTS.index("LeftArm"), JOINTS.index("LeftForeArm")
    full = overlay(blank(), only({0: (40, 40), left_arm: (80, 200), left_fore_arm: (200, 200)}))
    fifteen = only({0: (40, 40), left_arm - 1: (80, 200), left_fore_arm - 1: (200, 200)}, joints=15)
    np.testing.assert_array_equal(overlay(blank(), fifteen), full)
    assert tuple(full[200, 140]) == ORANGE  # the bone between the two
    assert tuple(full[120, 60]) == (GRAY, GRAY, GRAY)  # no bone from Neck


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 48)])
def test_small_and_odd_images_do(size):
    image = np.zeros((*size, 3), np.uint8)
    assert overlay(image, np.zeros((16, 2)), np.ones((16, 2))).shape == image.shape


def test_a_grid_enlarges_small_images_and_keeps_joints_in_place():
    images = np.stack([blank(64)] * 3)
    predicted = np.stack([only({0: (10, 20)}), only({0: (30, 20)}), only({0: (50, 60)})])
    true = np.stack([nowhere(), nowhere(), only({0: (20, 60)})])
    grid = overlay_grid(images, predicted, true, columns=2)
    assert grid.shape == (256 + 4 + 256, 256 + 4 + 256, 3)
    # pixel (x, y) of an image covers 4 x 4 pixels of the grid; its center is at 4 x + 1.5
    assert tuple(grid[82, 42]) == ORANGE
    assert tuple(grid[82, 260 + 122]) == ORANGE
    assert tuple(grid[260 + 242, 202]) == ORANGE
    assert tuple(grid[260 + 242, 82]) == BLUE
    assert (grid[300:, 262:] == 255).all()  # no fourth image


def test_labels_stand_in_the_corner():
    plain = overlay_grid(blank()[None], nowhere()[None])
    labelled = overlay_grid(blank()[None], nowhere()[None], labels=["best 1.0 mm"])
    rows, columns = np.nonzero((plain != labelled).any(2))
    assert 10 < rows.max() < 60
    assert 40 < columns.max() < 180
    assert labelled.max() == 255


def test_large_images_keep_their_size():
    assert overlay_grid(np.zeros((1, 300, 400, 3), np.uint8), nowhere()[None]).shape == (300, 400, 3)
