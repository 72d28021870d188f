import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.camera import UNSEEN, PinholeCamera

ZERO = np.zeros(3)
FEW = (-0.28, 0.07, 0.0006, -0.0004, 0.0)
ALL = (0.21, -0.4, 0.003, -0.002, 0.25)
BARREL = (-0.4, 0.0, 0.0, 0.0, 0.0)

# about what calibrations give; with more, the corners of the image lie beyond the fold
BOUNDS = ((-0.15, 0.3), (-0.05, 0.1), (-0.003, 0.003), (-0.003, 0.003), (-0.01, 0.03))
coefficients = st.tuples(*(st.floats(*bounds) for bounds in BOUNDS))


def camera_of(distortion, **changes):
    return PinholeCamera(640, 480, 520.0, 524.0, 318.0, 251.0, distortion, **changes)


def matrix(camera):
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def opencv_project(camera, points):
    pixels, _ = cv2.projectPoints(points[:, None], ZERO, ZERO, matrix(camera), np.array(camera.distortion))
    return pixels[:, 0]


def in_cone(camera, count=200):
    random = np.random.default_rng(0)
    theta, phi = np.radians(camera.lens_angle) * random.uniform(0, 1, count), random.uniform(0, 2 * np.pi, count)
    rays = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    return rays * random.uniform(0.2, 3, (count, 1))


@pytest.mark.parametrize("distortion", [(0.0,) * 5, FEW, ALL])
def test_project_is_opencvs(distortion):
    camera = camera_of(distortion)
    points = in_cone(camera)
    np.testing.assert_allclose(camera.project(points), opencv_project(camera, points), atol=1e-9)


@given(coefficients)
def test_project_is_opencvs_for_any_distortion(distortion):
    camera = camera_of(distortion)
    points = in_cone(camera)
    np.testing.assert_allclose(camera.project(points), opencv_project(camera, points), atol=1e-9)


def test_only_tangential_distortion_is_asymmetric():
    """Where OpenCV projects a mirrored and a turned scene, against the mirrored and the turned image."""
    assert camera_of((-0.2, 0.05, 0.0, 0.0, 0.01)).asymmetry() < 1e-9
    camera = camera_of(FEW)
    grid = np.meshgrid(np.linspace(0, 639, 41), np.linspace(0, 479, 41))
    points = camera.back_project(np.stack(grid, axis=-1).reshape(-1, 2))
    focal, center = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    x, y = ((opencv_project(camera, points) - center) / focal).T
    largest = 0.0
    for image, scene in (([-x, y], [-1, 1]), ([-x, -y], [-1, -1]), ([-y, x], None)):
        moved = points[:, [1, 0, 2]] * [-1, 1, 1] if scene is None else points * [*scene, 1]
        off = opencv_project(camera, moved) - (np.stack(image, axis=1) * focal + center)
        largest = max(largest, np.linalg.norm(off, axis=1).max())
    assert camera.asymmetry() == pytest.approx(largest, rel=0.02)


@pytest.mark.parametrize("distortion", [(0.0,) * 5, FEW, ALL])
def test_back_project_is_opencvs(distortion):
    camera = camera_of(distortion)
    pixels = np.random.default_rng(1).uniform([0, 0], [640, 480], (200, 2))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-13)
    flat = cv2.undistortPoints(pixels[:, None], matrix(camera), np.array(distortion), criteria=criteria)
    rays = camera.back_project(pixels)
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], flat[:, 0], atol=1e-9)


@given(coefficients, st.floats(0, 639), st.floats(0, 479))
def test_every_pixel_has_its_ray_for_any_distortion(distortion, u, v):
    camera, pixel = camera_of(distortion), np.array([u, v])
    np.testing.assert_allclose(camera.project(camera.back_project(pixel)), pixel, atol=1e-6)


def test_the_lens_ends_at_the_farthest_corner():
    camera = camera_of((0.0,) * 5)
    # the right upper corner: 321.5 px to the right of the center, 251.5 px above it
    farthest = np.hypot(321.5 / 520, 251.5 / 524)
    assert camera.lens_angle == pytest.approx(np.degrees(np.arctan(farthest)))


def test_distortion_does_not_fold_the_scene_back_into_the_image():
    """r (1 - 0.4 r^2) grows up to r = 0.913, and is 0 again at 1.58: there OpenCV sees the scene a second time."""
    camera = camera_of(BARREL)
    point = np.array([[1.55, 0.0, 1.0]])
    assert 318 < opencv_project(camera, point)[0, 0] < 400
    assert camera.visibility(opencv_project(camera, point), point) == UNSEEN
    fold = np.sqrt(1 / 1.2)
    np.testing.assert_allclose(camera.project(point), [[318 + 520 * fold * (1 - 0.4 * fold**2), 251]], atol=1e-9)


def test_a_pixel_beyond_the_fold_has_no_ray():
    camera = camera_of(BARREL)
    last = 318 + 520 * 0.60858  # the largest r (1 - 0.4 r^2)
    rays = camera.back_project(np.array([[last - 0.5, 251], [last + 0.5, 251], [1e6, 251]]))
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1:]).all()


def test_what_is_behind_the_camera_is_unseen():
    camera = camera_of(FEW)
    # OpenCV projects it as if it were in front
    point = np.array([[-0.1, -0.05, -1.0]])
    pixel = opencv_project(camera, point)
    assert (pixel > 0).all()
    assert (pixel < [640, 480]).all()
    assert camera.visibility(pixel, point) == camera.visibility(camera.project(point), point) == UNSEEN
    behind = camera.project(np.array([[0.0, 0.0, -1.0], [0.3, 0.1, -1.0], [0.3, 0.1, 0.0]]))
    assert np.isfinite(behind).all()
