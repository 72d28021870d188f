import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.camera import OcamCamera
from tests.models.calibrations import EGOREAR, SCENEEGO, TOOLBOX, UNREALEGO

PUBLISHED = {"sceneego": SCENEEGO, "egorear": EGOREAR, "unrealego": UNREALEGO, "toolbox": TOOLBOX}
TOOLBOX_INVERSE = (730.949123, 315.876984, -177.960849, -352.468231, -678.144608, -615.917273, -262.086205, -42.961956)

published = pytest.mark.parametrize("name", PUBLISHED)


def write(folder, calibration):
    path = folder / "calibration"
    path.write_text(calibration if isinstance(calibration, str) else json.dumps(calibration))
    return path


@pytest.fixture
def camera(tmp_path, name):
    return OcamCamera.read(write(tmp_path, PUBLISHED[name]))


def cam2world(camera, row, column):
    """The toolbox's C formula, in its frame: the unit vector (down, right, backwards) that a pixel sees."""
    c, d, e = camera.affine
    u, v = row - camera.cy, column - camera.cx
    x, y = (u - d * v) / (c - d * e), (c * v - e * u) / (c - d * e)
    rho = math.sqrt(x * x + y * y)
    z = sum(a * rho**i for i, a in enumerate(camera.polynomial))
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


def world2cam(camera, inverse, x, y, z):
    """The toolbox's C formula, in its frame: row and column of a point, by the inverse polynomial."""
    c, d, e = camera.affine
    norm = math.sqrt(x * x + y * y)
    theta = math.atan(z / norm)
    rho = sum(a * theta**i for i, a in enumerate(inverse))
    x, y = x / norm * rho, y / norm * rho
    return x * c + y * d + camera.cy, x * e + y + camera.cx


def sheared(camera):
    """The camera on a sensor that is not square to the lens, so that a c, d or e in a wrong place is seen."""
    return dataclasses.replace(camera, affine=(0.98, 0.03, -0.05))


def seen_pixels(camera, count=200):
    random = np.random.default_rng(0)
    pixels = random.uniform(0, [camera.width - 1, camera.height - 1], (count, 2))
    z = camera.back_project(pixels)[:, 2]
    return pixels[z > np.cos(np.radians(camera.lens_angle))]


@published
def test_back_project_is_the_toolboxs_cam2world(camera):
    for model in (camera, sheared(camera)):
        pixels = seen_pixels(model)
        down, right, backwards = np.transpose([cam2world(model, row, column) for column, row in pixels])
        np.testing.assert_allclose(model.back_project(pixels), np.stack([right, down, -backwards], -1), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "inverse", "bound"),
    [
        ("sceneego", SCENEEGO["polynomialW2C"], 2e-5),
        ("egorear", EGOREAR["polynomialW2C"], 0.0071),
        ("unrealego", UNREALEGO["polynomialW2C"], 0.0086),
        ("toolbox", TOOLBOX_INVERSE, 0.0107),
    ],
)
def test_project_is_the_toolboxs_world2cam_but_for_its_fit(camera, inverse, bound):
    """Published inverse polynomials are approximations, off by this many pixels where the lens shows something."""
    theta, phi = np.meshgrid(np.radians(np.linspace(1e-6, camera.lens_angle, 300)), np.linspace(0, 6, 7))
    x, y, z = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    rows, columns = np.transpose([world2cam(camera, inverse, y, x, -z) for x, y, z in points])
    off = np.linalg.norm(camera.project(points) - np.stack([columns, rows], axis=-1), axis=-1)
    assert bound / 2 < off.max() < bound
    # with a sensor that is not square as well
    model, factor = sheared(camera), 1.1
    rows, columns = np.transpose([world2cam(model, inverse, y, x, -z) for x, y, z in points])
    off = np.linalg.norm(model.project(points) - np.stack([columns, rows], axis=-1), axis=-1)
    assert off.max() < bound * factor


@published
def test_project_inverts_back_project_over_the_image(camera):
    for model in (camera, sheared(camera)):
        rows, columns = np.mgrid[0 : model.height : 5, 0 : model.width : 5]
        pixels = np.stack([columns, rows], axis=-1)
        np.testing.assert_allclose(model.project(model.back_project(pixels)), pixels, atol=1e-6)


@published
def test_projected_rays_are_right_to_a_billionth_of_a_radian(camera):
    theta = np.linspace(0, camera._largest_angle(), 5000)
    rays = np.stack([np.sin(theta), np.zeros_like(theta), np.cos(theta)], axis=-1)
    x, _, z = camera.back_project(camera.project(rays)).T
    # the last one is where the model ends, on one side or the other
    np.testing.assert_allclose(np.arctan2(np.abs(x), z)[:-1], theta[:-1], atol=1e-9)


folding = st.builds(
    lambda a0, a2, a3, a4: OcamCamera(800, 600, 398.0, 305.0, (-a0, 0.0, a2 / a0, a3 / a0**2, a4 / a0**3)),
    *(st.floats(150, 700), st.floats(-0.3, 0.6), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2)),
)


@given(folding, st.floats(0, 0.999), st.floats(-np.pi, np.pi))
def test_any_polynomial_is_inverted_up_to_where_it_folds(model, share, phi):
    theta = share * model._largest_angle()
    ray = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    np.testing.assert_allclose(model.back_project(model.project(2 * ray)), ray, atol=2e-9)


def test_the_model_ends_where_the_angle_ceases_to_grow():
    # f = -300 - rho^2 / 1200: rho / -f is largest at rho = 600, where it is 1
    model = OcamCamera(2000, 2000, 1000.0, 1000.0, (-300.0, 0.0, -1 / 1200))
    rays = model.back_project(np.array([[1599.9, 1000.0], [1600.1, 1000.0]]))
    np.testing.assert_allclose(rays[0], np.array([1, 0, 1]) / np.sqrt(2), atol=1e-6)
    assert np.isnan(rays[1]).all()
    assert model.lens_angle == pytest.approx(45)  # that of the corners is none
    np.testing.assert_allclose(model.project(np.array([1.0, 0, -1])), [1600, 1000], atol=1e-6)


def test_a_text_file_counts_rows_first_and_from_0(tmp_path):
    camera = OcamCamera.read(write(tmp_path, TOOLBOX))
    assert (camera.width, camera.height) == (1024, 768)
    assert (camera.cx, camera.cy) == (505.480427, 381.777786)
    assert camera.polynomial == (-551.7655, 0.0, 8.372454e-4, -6.474789e-7, 1.235631e-9)
    assert camera.affine == (1, 0, 0)
    # up is up: y is down, rows too
    assert camera.project(np.array([0.0, -1, 1]))[1] < camera.cy
    assert camera.project(np.array([1.0, 0, 1]))[0] > camera.cx


def test_both_kinds_of_file_say_the_same(tmp_path):
    text = write(tmp_path, TOOLBOX)
    camera = OcamCamera.read(text)
    content = {
        "polynomialC2W": [-551.7655, 0.0, 8.372454e-4, -6.474789e-7, 1.235631e-9],
        "image_center": [505.480427, 381.777786],
        "size": [1024, 768],
    }
    assert OcamCamera.read(write(tmp_path, content)) == camera


def test_the_inverse_polynomial_is_not_needed(tmp_path):
    camera = OcamCamera.read(write(tmp_path, TOOLBOX))
    lines = [line for line in TOOLBOX.splitlines() if not line.startswith("8 ")]
    assert OcamCamera.read(write(tmp_path, "\n".join(lines))) == camera
    rest = {key: value for key, value in EGOREAR.items() if key != "polynomialW2C"}
    assert OcamCamera.read(write(tmp_path, rest)) == OcamCamera.read(write(tmp_path, EGOREAR))


def test_the_lens_ends_at_the_image_circle_that_the_file_names(tmp_path):
    path = write(tmp_path, SCENEEGO)
    camera = OcamCamera.read(path)
    assert (camera.cx, camera.cy) == (659.7087109684564, 530.0556618148025)
    assert camera.lens_angle == pytest.approx(95.34, abs=0.01)
    x, y, z = camera.back_project(np.array([camera.cx, camera.cy - 512 * camera.affine[0]]))
    assert np.degrees(np.arctan2(np.hypot(x, y), z)) == pytest.approx(camera.lens_angle, abs=0.01)
    assert OcamCamera.read(path, lens_angle=80.0).lens_angle == 80
    assert OcamCamera.read(path, lens_angle=0.0).lens_angle == pytest.approx(134.4, abs=0.1)  # a corner


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "fewer lines of numbers"),
        ("no numbers\n", "could not convert string"),
        (TOOLBOX.replace("5 -5.5", "6 -5.5"), "how many follow"),
        (TOOLBOX.replace("768 1024", "768"), r"its size is \[768.0\]"),
        (TOOLBOX.replace("768 1024", "768.5 1024"), "its size is 1024 x 768.5"),
        (TOOLBOX.replace("-5.517655e+002", "nan"), "its polynomial is"),
        (TOOLBOX.replace("-5.517655e+002", "5.517655e+002"), "begins with a negative number: negate"),
        ("{", "Expecting property name"),
        ({}, "it has no polynomialC2W and no size"),
        ({**EGOREAR, "polynomialC2W": "x"}, "its polynomial is 'x'"),
        ({**EGOREAR, "affine": [1, 0]}, r"its affine is \[1, 0\]"),
        ({**EGOREAR, "imageCircleRadius": None}, "its imageCircleRadius is"),
        ({key: value for key, value in EGOREAR.items() if key != "image_center"}, "neither image_center nor intrinsic"),
    ],
)
def test_what_is_no_calibration_is_named(tmp_path, content, reason):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=reason) as error:
        OcamCamera.read(path)
    assert str(error.value).startswith(f"{path} is no calibration of OCamCalib (")
    assert "give a calib_results.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_and_absent_files_are_no_calibrations_either(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="is no calibration of OCamCalib"):
        OcamCamera.read(path)
    with pytest.raises(ValueError, match=r"cannot be read \(No such file"):
        OcamCamera.read(tmp_path / "absent.txt")
