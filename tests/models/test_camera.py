import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.xr_egopose import CAMERA, euler_to_rotation, world_to_camera

angles = st.floats(-180, 180)


def test_project_is_opencvs_fisheye_model():
    points = np.random.default_rng(0).uniform([-1, -1, 0.2], [1, 1, 2], (200, 3))
    matrix = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(CAMERA.distortion)
    )
    np.testing.assert_allclose(CAMERA.project(points), expected[:, 0], atol=1e-9)


def test_optical_axis_meets_the_principal_point():
    np.testing.assert_array_equal(CAMERA.project(np.array([0.0, 0, 3])), [CAMERA.cx, CAMERA.cy])


@given(st.floats(0, 1.7), angles, st.floats(0.1, 5))
def test_back_project_inverts_project(theta, phi, distance):
    ray = np.array([np.sin(theta) * np.cos(np.radians(phi)), np.sin(theta) * np.sin(np.radians(phi)), np.cos(theta)])
    np.testing.assert_allclose(CAMERA.back_project(CAMERA.project(distance * ray)), ray, atol=1e-8)


def test_back_project_has_no_ray_beyond_the_model():
    assert np.isnan(CAMERA.back_project(np.array([1e5, 0.0]))).all()


@pytest.mark.parametrize("size", [128, 368, 800])
def test_crop_and_resize_follows_the_pixels(size):
    """A pixel's four corners move with the crop and the resize; its center is their mean."""
    camera = CAMERA.cropped("square", size)
    points = np.random.default_rng(1).uniform([-0.5, -0.5, 0.5], [0.5, 0.5, 2], (50, 3))
    corners = (CAMERA.project(points) - [240, 0] + 0.5) * size / 800
    np.testing.assert_allclose(camera.project(points), corners - 0.5, atol=1e-9)


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_a_crop_is_a_square_of_the_frame_with_the_same_pixels(crop):
    left, top, side = CAMERA.window(crop)
    points = np.random.default_rng(2).uniform([-0.5, -0.5, 0.5], [0.5, 0.5, 2], (50, 3))
    moved = (CAMERA.project(points) - [left, top] + 0.5) * 96 / side - 0.5
    camera = CAMERA.cropped(crop, 96)
    np.testing.assert_allclose(camera.project(points), moved, atol=1e-9)
    assert (camera.width, camera.height) == (96, 96)
    assert camera.fx / camera.fy == pytest.approx(CAMERA.fx / CAMERA.fy)  # never squeezed


def test_the_windows_of_a_frame():
    assert CAMERA.window("square") == (240, 0, 800)
    assert CAMERA.window("full") == (0, -240, 1280)
    left, top, side = CAMERA.window("lens")
    # the circle that the lens lights: 459.4 to 459.6 px about the principal point
    assert (left, top) == (195, -59)
    assert 920 <= side <= 921


@given(st.floats(0, 89.9999), angles, st.floats(0.1, 5))
def test_the_crop_lens_loses_no_joint_that_the_lens_shows(theta, phi, distance):
    theta, phi = np.radians([theta, phi])
    point = distance * np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    for size in (96, 368):
        camera = CAMERA.cropped("lens", size)
        assert camera.visibility(camera.project(point), point) == IN_IMAGE


@given(angles, angles, angles)
def test_euler_angles_turn_about_static_x_then_y_then_z(x, y, z):
    def about(axis, degrees):
        return cv2.Rodrigues(np.eye(3)[axis] * np.radians(degrees))[0]

    expected = about(2, z) @ about(1, y) @ about(0, x)
    np.testing.assert_allclose(euler_to_rotation(np.array([x, y, z])), expected, atol=1e-12)


def test_world_to_camera_sees_what_is_in_front():
    # the modelling software's camera looks along -z with y up
    matrix = world_to_camera(np.array([10.0, 20, 30]), np.zeros(3))
    np.testing.assert_allclose(matrix @ [11, 22, 25, 1], [1, -2, 5, 1])


def test_a_joint_is_seen_up_to_the_lenss_angle_and_in_the_image_within_its_border():
    def visibility(degrees, pixel):
        point = [np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))]
        return int(CAMERA.visibility(np.array(pixel, np.float32), np.array(point, np.float32)))

    assert visibility(89.9, (1279.4, -0.4)) == IN_IMAGE
    assert visibility(89.9, (1279.6, 5)) == visibility(89.9, (5, -0.6)) == IN_LENS
    # behind the lens the polynomial folds back: the label is in the image and means nothing
    assert visibility(90.1, (640, 400)) == visibility(170, (640, 400)) == UNSEEN
