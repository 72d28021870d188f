"""The one function that stores frames in shards and prepares images for a trained network."""

import dataclasses
import io
import json

import cv2
import numpy as np
import pytest

from loaders.codecs import decode
from loaders.plain import UnknownFieldError, from_plain
from loaders.preprocessing import Circle, Preprocessing, resize
from models.xr_egopose import CAMERA

FRAME = cv2.resize(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8), (1280, 800))


def frames(crop):
    return Preprocessing.of("source", crop, 0, 0, CAMERA)


def read_back(content):
    if content.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(content))
    return decode(np.frombuffer(content, np.uint8))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw"])
@pytest.mark.parametrize("size", [96, 368, 1000])
def test_an_image_is_what_a_loader_reads_back(image_format, size):
    preprocessing = Preprocessing.of(image_format, "square", size, 90, CAMERA)
    expected = read_back(preprocessing.encode(FRAME))
    assert expected.shape == (size, size, 3)
    np.testing.assert_array_equal(preprocessing.apply(FRAME), expected)
    np.testing.assert_array_equal(preprocessing.apply(np.ascontiguousarray(FRAME[:, 240:1040])), expected)
    alpha = np.full((800, 1280, 1), 7, np.uint8)
    np.testing.assert_array_equal(read_back(preprocessing.encode(np.dstack([FRAME, alpha]))), expected)


def test_a_stored_image_is_not_encoded_again():
    preprocessing = Preprocessing.of("jpeg", "square", 96, 50, CAMERA)
    square = np.ascontiguousarray(FRAME[:96, :96])
    np.testing.assert_array_equal(preprocessing.apply(square), square)


def test_the_format_source_leaves_the_center_square():
    preprocessing = Preprocessing.of("source", "square", 96, 90, CAMERA)
    assert (preprocessing.crop, preprocessing.image_size, preprocessing.quality) == ("square", 800, None)
    assert preprocessing.stored == CAMERA
    np.testing.assert_array_equal(preprocessing.apply(FRAME), FRAME[:, 240:1040])


def test_small_images_are_enlarged():
    small = FRAME[:40, :60]
    enlarged = Preprocessing.of("raw", "square", 96, 90, CAMERA).apply(small)
    np.testing.assert_array_equal(enlarged, cv2.resize(small[:, 10:50], (96, 96), interpolation=cv2.INTER_LINEAR))


def test_the_center_square_and_its_resize():
    tall = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(7, 4, 3)
    np.testing.assert_array_equal(frames("square").cut(tall), tall[1:5])
    assert resize(FRAME[:, :800], 800) is not None
    out = np.zeros((64, 64, 3), np.uint8)
    np.testing.assert_array_equal(resize(FRAME[:, 240:1040], 64, out), out)
    assert out.any()


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_a_crop_is_the_cameras_window_black_beyond_the_frame(crop):
    left, top, side = CAMERA.window(crop)
    square = frames(crop).cut(FRAME)
    assert square.shape == (side, side, 3)
    rows, columns = np.indices((side, side)) + np.reshape([top, left], (2, 1, 1))
    inside = (rows >= 0) & (rows < 800) & (columns >= 0) & (columns < 1280)
    expected = np.where(inside[..., None], FRAME[rows.clip(0, 799), columns.clip(0, 1279)], 0)
    np.testing.assert_array_equal(square, expected)
    assert np.shares_memory(square, FRAME) == bool(inside.all()) == (crop == "square")
    alpha = np.dstack([FRAME, FRAME[..., :1]]).astype(np.uint16)
    np.testing.assert_array_equal(frames(crop).cut(alpha)[..., :3], expected)
    np.testing.assert_array_equal(frames(crop).cut(FRAME[..., 0]), expected[..., 0])


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_what_a_crop_shows_of_a_frame_it_shows_of_the_frame_at_another_size(crop):
    left, top, side = CAMERA.window_in(640, 400, crop)
    assert np.abs(np.array([left, top, side]) * 2 - CAMERA.window(crop)).max() <= 1
    # the center square alone, as users cut frames: the rest of the crop is black
    centered = frames(crop).cut(np.ascontiguousarray(FRAME[:, 240:1040]))
    whole = frames(crop).cut(FRAME)
    assert centered.shape == whole.shape
    shown = centered.any(axis=2)
    np.testing.assert_array_equal(centered[shown], whole[shown])


@pytest.mark.parametrize("crop", ["lens", "full"])
@pytest.mark.parametrize("image_format", ["jpeg", "raw", "source"])
def test_a_wider_crop_is_what_a_loader_reads_back(image_format, crop):
    preprocessing = Preprocessing.of(image_format, crop, 96, 90, CAMERA)
    seen = preprocessing.apply(FRAME)
    if image_format == "source":
        np.testing.assert_array_equal(seen, frames(crop).cut(FRAME))
        assert preprocessing.image_size == len(seen)
    else:
        np.testing.assert_array_equal(seen, read_back(preprocessing.encode(FRAME)))
        np.testing.assert_array_equal(preprocessing.as_stored(frames(crop).cut(FRAME)), seen)
        np.testing.assert_array_equal(preprocessing.apply(seen), seen)


def test_plain_values_become_the_same_preprocessing_again():
    of = Preprocessing.of("jpeg", "square", 96, 90, CAMERA)
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
    plain = dataclasses.asdict(Preprocessing.of("jpeg", "square", 96, 90, CAMERA)) | change
    with pytest.raises(ValueError, match=said):
        from_plain(Preprocessing, plain)


def test_fields_of_a_newer_program_are_named():
    with pytest.raises(UnknownFieldError, match="tilt of Preprocessing"):
        from_plain(Preprocessing, dataclasses.asdict(Preprocessing.of("png", "square", 96, 90, CAMERA)) | {"tilt": 1})
