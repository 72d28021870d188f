"""The one function that stores frames in shards and prepares images for a trained network."""

import dataclasses
import io
import json

import cv2
import numpy as np
import pytest

from loaders.codecs import decode
from loaders.plain import UnknownFieldError, from_plain
from loaders.preprocessing import Circle, Preprocessing, center_square, resize
from models.camera import XR_EGOPOSE

FRAME = cv2.resize(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8), (1280, 800))


def read_back(content):
    if content.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(content))
    return decode(np.frombuffer(content, np.uint8))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw"])
@pytest.mark.parametrize("size", [96, 368, 1000])
def test_an_image_is_what_a_loader_reads_back(image_format, size):
    preprocessing = Preprocessing.of(image_format, size, 90, XR_EGOPOSE)
    expected = read_back(preprocessing.encode(FRAME))
    assert expected.shape == (size, size, 3)
    np.testing.assert_array_equal(preprocessing.apply(FRAME), expected)
    np.testing.assert_array_equal(preprocessing.apply(np.ascontiguousarray(FRAME[:, 240:1040])), expected)
    alpha = np.full((800, 1280, 1), 7, np.uint8)
    np.testing.assert_array_equal(read_back(preprocessing.encode(np.dstack([FRAME, alpha]))), expected)


def test_a_stored_image_is_not_encoded_again():
    preprocessing = Preprocessing.of("jpeg", 96, 50, XR_EGOPOSE)
    square = np.ascontiguousarray(FRAME[:96, :96])
    np.testing.assert_array_equal(preprocessing.apply(square), square)


def test_the_format_source_leaves_the_center_square():
    preprocessing = Preprocessing.of("source", 96, 90, XR_EGOPOSE)
    assert (preprocessing.crop, preprocessing.image_size, preprocessing.quality) == ("full", 800, None)
    assert preprocessing.camera(XR_EGOPOSE) == XR_EGOPOSE
    np.testing.assert_array_equal(preprocessing.apply(FRAME), FRAME[:, 240:1040])


def test_small_images_are_enlarged():
    small = FRAME[:40, :60]
    enlarged = Preprocessing.of("raw", 96, 90, XR_EGOPOSE).apply(small)
    np.testing.assert_array_equal(enlarged, cv2.resize(small[:, 10:50], (96, 96), interpolation=cv2.INTER_LINEAR))


def test_the_center_square_and_its_resize():
    tall = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(7, 4, 3)
    np.testing.assert_array_equal(center_square(tall), tall[1:5])
    assert resize(FRAME[:, :800], 800) is not None
    out = np.zeros((64, 64, 3), np.uint8)
    np.testing.assert_array_equal(resize(FRAME[:, 240:1040], 64, out), out)
    assert out.any()


def test_plain_values_become_the_same_preprocessing_again():
    of = Preprocessing.of("jpeg", 96, 90, XR_EGOPOSE)
    for given in (of, dataclasses.replace(of, image_circle=Circle(47.0, 48.5, 51.0))):
        assert from_plain(Preprocessing, json.loads(json.dumps(dataclasses.asdict(given)))) == given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": "96"}, "image_size of Preprocessing is '96'"),
        ({"image_size": True}, "image_size of Preprocessing is True"),
        ({"format": "gif"}, "format of Preprocessing is 'gif'"),
        ({"image_circle": {"x": 1.0}}, "its Circle has no y and no radius"),
        ({"image_circle": [1.0, 2.0, 3.0]}, "its Circle is "),
    ],
)
def test_other_values_are_refused(change, said):
    plain = dataclasses.asdict(Preprocessing.of("jpeg", 96, 90, XR_EGOPOSE)) | change
    with pytest.raises(ValueError, match=said):
        from_plain(Preprocessing, plain)


def test_fields_of_a_newer_program_are_named():
    with pytest.raises(UnknownFieldError, match="tilt of Preprocessing"):
        from_plain(Preprocessing, dataclasses.asdict(Preprocessing.of("png", 96, 90, XR_EGOPOSE)) | {"tilt": 1})
