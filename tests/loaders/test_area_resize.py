from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.area_resize import resize_by_area


def covered(side: int, size: int) -> list[list[tuple[int, Fraction]]]:
    """For each pixel of the result, the pixels it covers and how much of its own length each takes."""
    scale = Fraction(side, size)
    return [
        [
            (pixel, (min((x + 1) * scale, Fraction(pixel + 1)) - max(x * scale, Fraction(pixel))) / scale)
            for pixel in range(floor(x * scale), ceil((x + 1) * scale))
        ]
        for x in range(size)
    ]


def by_definition(square: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The mean over the covered area in fractions, halves rounded up."""
    lengths = covered(len(square), size)
    result = np.empty((size, size, 3), np.uint8)
    for y, rows in enumerate(lengths):
        for x, columns in enumerate(lengths):
            for channel in range(3):
                total = sum(
                    (a * b * int(square[row, column, channel]) for row, a in rows for column, b in columns), Fraction()
                )
                result[y, x, channel] = floor(total + Fraction(1, 2))
    return result


@settings(max_examples=40)
@given(st.integers(1, 17), st.integers(1, 17), st.integers(0, 5), st.sampled_from([3, 4]), st.integers(0, 2**32 - 1))
def test_every_pixel_is_the_mean_of_the_area_it_covers(
    side: int, size: int, left: int, channels: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (side + 1, side + left + 2, channels), np.uint8)
    expected = by_definition(image[:side, left : left + side, :3], size)
    np.testing.assert_array_equal(resize_by_area(image[:side, left : left + side], size), expected)


@pytest.mark.parametrize("size", [32, 367, 368, 799, 800, 1000])
def test_the_largest_sums_do_not_overflow(size: int) -> None:
    image = np.full((800, 1280, 3), 255, np.uint8)
    assert (resize_by_area(image[:, 240:1040], size) == 255).all()


@pytest.mark.parametrize("size", [128, 256, 367, 368])
def test_opencv_differs_by_rounding_only(size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (800, 1280, 3), np.uint8)
    theirs = cv2.resize(image[:, 240:1040], (size, size), interpolation=cv2.INTER_AREA)
    difference = np.abs(resize_by_area(image[:, 240:1040], size).astype(int) - theirs)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_the_square_itself_is_not_changed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (800, 1280, 4), np.uint8)
    np.testing.assert_array_equal(resize_by_area(image[:, 240:1040], 800), image[:, 240:1040, :3])
