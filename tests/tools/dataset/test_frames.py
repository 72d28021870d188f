from __future__ import annotations

import io
import random
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from loaders.preprocessing import Format, Preprocessing
from models.xr_egopose import CAMERA
from tools.sources.images import decode_png, encode_exact, encode_image
from tools.sources.source import FrameError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (800, 1280, 4), np.uint8)
SMOOTH = cv2.GaussianBlur(PIXELS, (0, 0), 8)


def stored_as(image_format: Format, size: int = 368) -> Preprocessing:
    return Preprocessing.of(image_format, "square", size, 95, CAMERA)


def png(image: NDArray[Any] | PIL.Image.Image, **options: Any) -> bytes:
    opened = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    stream = io.BytesIO()
    opened.save(stream, "png", **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [3, 4])
def test_colors_come_in_the_order_red_green_blue(channels: int) -> None:
    np.testing.assert_array_equal(decode_png("rgba", png(PIXELS[:, :, :channels]), CAMERA), PIXELS[:, :, :channels])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen(channels: int) -> None:
    image = RNG.integers(0, 2**16, (800, 1280, channels), np.uint16)
    content = cv2.imencode(".png", image)[1].tobytes()
    # OpenCV took the channels as blue, green, red
    expected = image[:, :, 0] if channels == 1 else image[:, :, [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(decode_png("worldp", content, CAMERA), expected)


def test_unusual_kinds_are_decoded_too() -> None:
    gray = PIXELS[:, :, 0]
    np.testing.assert_array_equal(decode_png("depth", png(gray), CAMERA), gray)
    palette = PIL.Image.fromarray(SMOOTH[:, :, :3]).quantize(64)
    np.testing.assert_array_equal(decode_png("rgba", png(palette), CAMERA), np.asarray(palette.convert("RGB")))
    gray_alpha = PIL.Image.fromarray(np.ascontiguousarray(PIXELS[:, :, :2]), "LA")
    np.testing.assert_array_equal(decode_png("rgba", png(gray_alpha), CAMERA)[:, :, 0], gray)


@pytest.mark.parametrize("size", [800, 368])
def test_every_kind_of_image_becomes_three_channels(size: int) -> None:
    preprocessing = stored_as("raw", size)

    def stored(content: bytes) -> NDArray[np.uint8]:
        return np.asarray(np.load(io.BytesIO(encode_image(content, preprocessing))), np.uint8)

    color = stored(png(SMOOTH[:, :, :3]))
    assert color.shape == (size, size, 3)
    np.testing.assert_array_equal(stored(png(SMOOTH)), color)
    deep = SMOOTH[:, :, 2::-1].astype(np.uint16) << 8
    np.testing.assert_array_equal(stored(cv2.imencode(".png", deep)[1].tobytes()), color)
    gray = stored(png(SMOOTH[:, :, 0]))
    np.testing.assert_array_equal(gray, np.repeat(color[:, :, :1], 3, axis=2))


def test_a_stored_png_has_the_colors_of_the_raw_image() -> None:
    content = png(SMOOTH)
    raw = np.load(io.BytesIO(encode_image(content, stored_as("raw"))))
    stored = PIL.Image.open(io.BytesIO(encode_image(content, stored_as("png"))))
    np.testing.assert_array_equal(np.asarray(stored), raw)
    lossy = PIL.Image.open(io.BytesIO(encode_image(content, stored_as("jpeg"))))
    assert np.abs(np.asarray(lossy).astype(int) - raw).mean() < 3


def test_worldp_takes_the_pixel_under_each_center() -> None:
    y, x = np.mgrid[:800, :1280].astype(np.uint16)
    stored = encode_exact("worldp", cv2.imencode(".png", np.dstack([x, y, x]))[1].tobytes(), stored_as("jpeg"))
    taken = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
    centers = (np.arange(368) + 0.5) * 800 / 368 - 0.5
    assert np.abs(taken[:, :, 0] - (240 + centers)[None, :]).max() <= 0.5 + 1e-9
    assert np.abs(taken[:, :, 1] - centers[:, None]).max() <= 0.5 + 1e-9


def test_two_hundred_damaged_files_are_refused_or_decoded() -> None:
    whole, chance = png(SMOOTH[:, :, :3]), random.Random(0)
    refused = 0
    for number in range(200):
        content = bytearray(whole)
        if number % 4 == 0:
            del content[chance.randrange(len(content)) :]
        elif number % 4 == 1:
            for _ in range(chance.randrange(1, 20)):
                content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        elif number % 4 == 2:
            content[chance.randrange(60)] ^= chance.randrange(1, 256)
        else:
            start = chance.randrange(len(content))
            del content[start : start + chance.randrange(1, 1000)]
        try:
            assert decode_png("rgba", bytes(content), CAMERA).shape[:2] == (800, 1280)
        except FrameError as error:
            refused += 1
            assert str(error).startswith("rgba ")
    assert refused > 190
