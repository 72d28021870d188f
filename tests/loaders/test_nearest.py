"""Moving values by nearest neighbor: one rule, two ways to compute it."""

import numpy as np
import pytest
import torch

from loaders.augment import AugmentConfig, draw
from loaders.nearest import NearestPixels
from models.xr_egopose import CAMERA


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.uint16, 3), (np.uint8, 4)])
@pytest.mark.parametrize(("crop", "size"), [("square", 96), ("lens", 368), ("full", 300)])
def test_torch_takes_the_pixels_that_opencv_takes(crop, size, dtype, channels, moved):
    """What a GPU computes, computed here."""
    values = np.random.default_rng(0).integers(0, 250, (3, 800, 1280, channels)).astype(dtype)
    warps = draw(AugmentConfig(rotation=180, horizontal_flip=0.5), 1, 2, np.arange(3)).warp(CAMERA.cropped(crop, size))
    nearest = NearestPixels(CAMERA.window(crop), size)
    given = torch.from_numpy(values), warps if moved else None
    by_opencv, by_torch = nearest.move_batch(*given), nearest.gather(*given)
    assert by_opencv.shape == (3, size, size, channels)
    assert torch.equal(by_opencv, by_torch)
    assert len(by_opencv.unique() if dtype == np.uint8 else np.unique(by_opencv.numpy())) > 100


def test_a_center_takes_the_pixel_that_it_lies_in():
    warp = np.array([[0.0, -1.0, 9.2], [1.0, 0.0, -0.3]])  # a quarter turn clockwise, and a bit
    values = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    moved = NearestPixels((0, 0, 10), 10).move(values, warp)[..., 0]
    # (x, y) comes from (y + 0.3, 9.2 - x), whose pixel is the nearest
    expected = [[values[9 - x, y, 0] if y < 10 else 0 for x in range(10)] for y in range(10)]
    np.testing.assert_array_equal(moved, expected)
    assert NearestPixels((0, 0, 10), 10).stay
    assert not NearestPixels((0, 0, 10), 9).stay
