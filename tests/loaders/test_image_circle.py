"""The image circle of training images, and cutting others to it."""

import cv2
import numpy as np
import pytest

from loaders.format.manifest import Manifest
from loaders.preprocessing import Circle, find_circle
from models.xr_egopose import CAMERA
from tools.shard import main as shard
from tools.synthesize import main as synthesize


def lit(circle, size=100, brightness=200):
    image = np.zeros((size, size, 3), np.uint8)
    image[np.hypot(*(np.indices((size, size)) - np.array([circle.y, circle.x])[:, None, None])) <= circle.radius] = (
        brightness
    )
    return image


def close(found, expected, tolerance):
    assert (found.x, found.y, found.radius) == pytest.approx((expected.x, expected.y, expected.radius), abs=tolerance)


def test_a_circle_is_found_though_images_are_dark_in_places():
    circle = Circle(52, 47, 56)  # reaches over the border, as in the training images
    halves = [lit(circle) for _ in range(2)]
    halves[0][:50] = 0
    halves[1][50:] = 0
    close(find_circle([*halves]), circle, 1)
    encoded = cv2.imencode(".jpg", lit(circle, brightness=255), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    close(find_circle([cv2.imdecode(encoded, cv2.IMREAD_COLOR)]), circle, 4)
    speck = lit(circle)
    speck[1, 1] = 255
    close(find_circle([speck]), circle, 1)


def test_images_without_a_circle():
    whole = find_circle([np.full((100, 100, 3), 200, np.uint8)])
    assert (whole.cut(np.full((100, 100, 3), 9, np.uint8)) == 9).all()
    assert find_circle([np.zeros((100, 100, 3), np.uint8)]) is None


def test_cutting():
    image = Circle(80, 50, 30).cut(np.full((100, 160, 3), 255, np.uint8))
    assert (image[50, 50:111] == 255).all()
    assert (image[20:81, 80] == 255).all()
    assert not image[50, :50].any()
    assert not image[:20].any()


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("generated")
    subjects = ["--train-subjects", "1", "--val-subjects", "0", "--test-subjects", "0"]
    made = ["--frames-per-subject", "12", "--modalities", "rgba", "json", "--workers", "1"]
    assert synthesize(["--output", str(root), *subjects, *made]) == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize("stored", [["--image-size", "64"], ["--image-format", "source"]])
def test_the_manifest_says_where_the_lens_of_generated_frames_ends(generated, tmp_path, stored):
    """The circle ends at a known angle, and the camera model says where that is, however the images are stored."""
    flags = ["--components", "rgba", "--workers", "2", "--samples-per-shard", "5", *stored]
    assert shard(["--root", str(generated), "--output", str(tmp_path), *flags]) == 0
    preprocessing = Manifest.read(tmp_path).preprocessing
    camera = CAMERA.cropped("square", preprocessing.image_size)
    angle = np.radians(CAMERA.lens_angle)
    edge = camera.project(np.array([np.sin(angle), 0, np.cos(angle)]))
    close(preprocessing.image_circle, Circle(camera.cx, camera.cy, edge[0] - camera.cx), 1.5)
