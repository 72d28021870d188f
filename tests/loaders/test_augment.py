import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.augment import Augmentation, AugmentConfig, draw
from loaders.errors import InputError
from models.xr_egopose import CAMERA, SKELETON
from tests.other_datasets import BODY, FRAMES

STRONG = AugmentConfig(rotation=180, horizontal_flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4)


@given(st.floats(-np.pi, np.pi), st.booleans(), st.sampled_from([128, 368, 800]), st.integers(0, 1000))
def test_moved_joints_are_where_the_camera_sees_the_moved_pose(angle, flip, size, seed):
    camera = CAMERA.cropped("square", size)
    pose = np.random.default_rng(seed).uniform([-0.6, -0.6, 0.05], [0.6, 0.6, 1.5], (1, 16, 3)).astype(np.float32)
    pixels = camera.project(pose).astype(np.float32)
    augmentation = Augmentation(np.array([angle]), np.array([flip]), np.zeros((1, 3, 4), np.float32))
    moved_2d, moved_3d = augmentation.move_joints(pixels, pose, camera, SKELETON)
    np.testing.assert_allclose(moved_2d, camera.project(moved_3d), atol=0.01)


def test_a_rotation_by_90_degrees_is_clockwise_on_the_screen():
    camera = CAMERA.cropped("square", 368)
    augmentation = Augmentation(np.array([np.pi / 2]), np.array([False]), np.zeros((1, 3, 4), np.float32))
    right = np.full((1, 16, 2), [camera.cx + 100, camera.cy], np.float32)
    moved, _ = augmentation.move_joints(right, np.zeros((1, 16, 3), np.float32), camera, SKELETON)
    np.testing.assert_allclose(moved[0, 0], [camera.cx, camera.cy + 100 * camera.fy / camera.fx], atol=1e-3)


@pytest.mark.parametrize("camera", FRAMES.values(), ids=FRAMES)
def test_pixels_move_as_every_camera_sees_the_moved_scene(camera):
    seen = camera.cropped("square", 256)
    pixels = np.random.default_rng(0).uniform(0, 255, (30, 15, 2)).astype(np.float32)
    rays = seen.back_project(pixels)
    shown = rays[..., 2] > 0.1
    augmentation = draw(STRONG, 3, 1, np.arange(30))
    moved_2d, moved_3d = augmentation.move_joints(pixels, rays.astype(np.float32), seen, BODY)
    other = np.array(BODY.flip_indices)
    shown = np.where(augmentation.flip[:, None], shown[:, other], shown)
    assert shown.sum() > 200
    np.testing.assert_allclose(moved_2d[shown], seen.project(moved_3d)[shown], atol=0.01)
    assert seen.asymmetry() < 1e-6


def test_a_horizontal_flip_exchanges_left_and_right():
    camera = CAMERA.cropped("square", 368)
    pose = np.random.default_rng(0).normal(size=(1, 16, 3)).astype(np.float32)
    augmentation = Augmentation(np.zeros(1), np.array([True]), np.zeros((1, 3, 4), np.float32))
    _, moved = augmentation.move_joints(np.zeros((1, 16, 2), np.float32), pose, camera, SKELETON)
    np.testing.assert_allclose(moved[0], pose[0, list(SKELETON.flip_indices)] * [-1, 1, 1], atol=1e-6)


def test_augmentation_is_a_pure_function_of_seed_epoch_and_sample():
    samples = np.arange(100)
    whole = draw(STRONG, 5, 3, samples)
    part = draw(STRONG, 5, 3, samples[40:60][::-1])
    np.testing.assert_array_equal(whole.angle[40:60][::-1], part.angle)
    np.testing.assert_array_equal(whole.color[40:60][::-1], part.color)
    for other in (draw(STRONG, 6, 3, samples), draw(STRONG, 5, 4, samples)):
        assert (other.angle != whole.angle).all()


def test_augmentation_has_the_configured_spread():
    drawn = draw(STRONG, 0, 0, np.arange(20_000))
    assert np.degrees(drawn.angle).min() < -178
    assert np.degrees(drawn.angle).max() > 178
    assert abs(drawn.flip.mean() - 0.5) < 0.02
    gray = drawn.color[:, :, :3].sum(2)  # what gray is multiplied by: brightness times contrast
    assert gray.min() >= 0.36 - 1e-6
    assert gray.max() <= 1.96 + 1e-6


def test_nothing_configured_changes_nothing():
    drawn = draw(AugmentConfig(), 0, 0, np.arange(10))
    np.testing.assert_array_equal(drawn.angle, 0)
    assert not drawn.flip.any()
    np.testing.assert_allclose(drawn.color, np.broadcast_to(np.eye(3, 4), (10, 3, 4)), atol=1e-6)


def test_color_by_hand():
    """Saturation mixes with the gray, brightness scales, contrast spreads about mid-gray."""
    drawn = draw(AugmentConfig(brightness=0.5, contrast=0.5, saturation=1.0), 0, 0, np.arange(50))
    rgb = np.array([200.0, 100, 50])
    gray = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    for color in drawn.color.astype(np.float64):
        out = color[:, :3] @ rgb + color[:, 3]
        contrast = 1 - color[0, 3] / 127.5
        brightness = color[0, :3].sum() / contrast
        saturation = (color[0, 0] - color[1, 0]) / (contrast * brightness)
        expected = (saturation * rgb + (1 - saturation) * gray) * brightness
        np.testing.assert_allclose(out, (expected - 127.5) * contrast + 127.5, atol=0.01)


@pytest.mark.parametrize("wrong", [{"rotation": 181}, {"horizontal_flip": 1.5}, {"contrast": -0.1}])
def test_ranges_are_checked(wrong):
    with pytest.raises(InputError, match=f"data.augment.{next(iter(wrong))}"):
        AugmentConfig(**wrong)
