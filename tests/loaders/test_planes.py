import numpy as np
import pytest

from loaders.planes import normalize


@pytest.mark.parametrize("size", [(368, 368), (64, 64), (33, 16), (65, 63), (16, 16), (1, 1)])
@pytest.mark.parametrize("offset", [0, 1, 4])
def test_every_pixel_is_normalized_and_nothing_else_is_written(size, offset):
    """Also for odd numbers of pixels and odd addresses."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    memory = np.full(offset + pixels.size + 9, 7, np.float32)
    planes = memory[offset : len(memory) - 9].reshape(3, *size)
    normalize(pixels, planes)
    np.testing.assert_allclose(planes, pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert (memory[:offset] == 7).all()
    assert (memory[-9:] == 7).all()


def test_the_ends_are_exact():
    planes = np.empty((3, 4, 4), np.float32)
    for level, value in ((0, -1.0), (255, 1.0)):
        normalize(np.full((4, 4, 3), level, np.uint8), planes)
        assert (planes == np.float32(value)).all()
