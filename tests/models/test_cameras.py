"""What holds for every camera model."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.plain import from_plain
from models.camera import CAMERAS, IN_IMAGE, UNSEEN, OcamCamera, PinholeCamera
from models.xr_egopose import CAMERA

LENS = (-292.4, 0.0, 1.0756e-03, 2.0727e-07, 4.4935e-10)
MODELS = {
    "kannala-brandt": CAMERA,
    "pinhole": PinholeCamera(640, 480, 400.0, 405.0, 330.0, 236.0, (-0.3, 0.12, 0.002, -0.003, -0.02)),
    "ocam": OcamCamera(1280, 1024, 659.7, 530.1, LENS, (0.99, -0.015, 0.02), lens_angle=95.0),
}

models = pytest.mark.parametrize("camera", MODELS.values(), ids=MODELS)
around = st.floats(-np.pi, np.pi)


def ray(degrees, phi):
    theta = np.radians(degrees)
    return np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])


def grid(camera, step=7):
    rows, columns = np.mgrid[0 : camera.height : step, 0 : camera.width : step]
    return np.stack([columns, rows], axis=-1)


def test_every_model_has_a_word():
    assert {word: type(camera) for word, camera in MODELS.items()} == CAMERAS
    assert all(camera.model == word for word, camera in MODELS.items())


@models
def test_a_camera_comes_back_from_plain_values(camera):
    for kept in (camera, camera.cropped("lens", 368)):
        assert from_plain(type(camera), json.loads(json.dumps(dataclasses.asdict(kept)))) == kept


@models
@given(
    st.floats(0, 180),
    around,
    st.floats(0.01, 100),
    st.tuples(st.floats(-300, 300), st.floats(-300, 300), st.integers(50, 1500), st.integers(8, 900)),
)
def test_a_crop_moves_the_pixels_and_nothing_else(camera, degrees, phi, distance, square):
    other, (left, top, crop, size) = camera.crop_and_resize(*square), square
    assert (other.width, other.height, other.lens_angle) == (size, size, camera.lens_angle)
    point = distance * ray(degrees, phi)
    pixel = camera.project(point)
    moved = (pixel - [left, top] + 0.5) * size / crop - 0.5
    # where a model ends, it may be thousands of pixels away
    close = {"rtol": 1e-9, "atol": 1e-7}
    np.testing.assert_allclose(other.project(point), moved, **close)
    np.testing.assert_allclose(camera.transfer(pixel, other), moved, **close)


@models
@given(around, st.floats(0, 1))
def test_back_project_inverts_project_over_all_that_the_lens_shows(camera, phi, share):
    seen = ray(share * camera.lens_angle, phi)
    np.testing.assert_allclose(camera.back_project(camera.project(5 * seen)), seen, atol=1e-9)


@models
def test_project_inverts_back_project_over_the_image(camera):
    pixels = grid(camera)
    rays = camera.back_project(pixels)
    # the dataset's frames have black corners, where the model ends
    is_seen = rays[..., 2] > np.cos(np.radians(camera.lens_angle))
    assert is_seen.mean() > 0.6
    rays, pixels = rays[is_seen], pixels[is_seen]
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(camera.project(rays * 3), pixels, atol=1e-6)


@models
def test_the_optical_axis_meets_the_center(camera):
    np.testing.assert_array_equal(camera.project(np.array([0.0, 0, 3])), [camera.cx, camera.cy])
    np.testing.assert_array_equal(camera.back_project(np.array([camera.cx, camera.cy])), [0, 0, 1])


@models
def test_focal_lengths_are_pixels_per_radian_on_the_axis(camera):
    small = 1e-6
    off = camera.project(np.array([[small, 0, 1], [0, small, 1]])) - [camera.cx, camera.cy]
    np.testing.assert_allclose(np.diagonal(off) / small, [camera.fx, camera.fy], rtol=1e-4)


@models
@given(around, st.floats(0, 0.9999))
def test_the_crop_lens_loses_no_joint_that_the_lens_shows(camera, phi, share):
    point = ray(share * camera.lens_angle, phi)
    seen = camera.cropped("lens", 368)
    assert seen.visibility(seen.project(point), point) == IN_IMAGE


@models
def test_the_crop_lens_ends_where_the_lens_ends(camera):
    """The side is that of the box around the edge of the lens, to whole pixels."""
    left, top, side = camera.window("lens")
    edge = camera.project(np.stack([ray(camera.lens_angle, phi) for phi in np.linspace(0, 2 * np.pi, 1000)]))
    assert np.ptp(edge, axis=0).max() <= side <= np.ptp(edge, axis=0).max() + 2
    np.testing.assert_allclose(edge.min(axis=0) - [left, top] + 0.5, 0.5, atol=0.51)


@models
@given(around, st.floats(0.001, 0.999), st.floats(0.1, 10))
def test_what_the_lens_does_not_show_is_unseen_and_finite(camera, phi, share, distance):
    point = distance * ray(camera.lens_angle + share * (180 - camera.lens_angle), phi)
    pixel = camera.project(point)
    assert np.isfinite(pixel).all()
    assert camera.visibility(pixel, point) == UNSEEN


@pytest.mark.parametrize("word", ["pinhole", "ocam"])
def test_a_lens_without_an_angle_shows_all_of_the_image(word):
    camera = dataclasses.replace(MODELS[word], lens_angle=0.0)
    pixels = grid(camera, 1)
    rays = camera.back_project(pixels)
    assert (camera.visibility(pixels, rays) == IN_IMAGE).all()
    # and no more than that: the farthest pixel is half a pixel's diagonal from its corner
    degrees = np.degrees(np.arccos(rays[..., 2].min()))
    assert degrees < camera.lens_angle < degrees + 0.3


@pytest.mark.parametrize(("word", "angle"), [("pinhole", 90.0), ("pinhole", -5.0), ("ocam", 181.0), ("ocam", np.nan)])
def test_no_lens_shows_what_the_model_cannot(word, angle):
    with pytest.raises(ValueError, match=f"this {word} camera has an image only up to .* give less"):
        dataclasses.replace(MODELS[word], lens_angle=angle)
