"""Writing PNG files fast: one filter for all rows, and zlib-ng's deflate.

OpenCV's encoder takes 44 ms for a frame's four images and this one 30, for smaller files. ISA-L's deflate would save
another third, but once gave other bytes for the same image: it is not the same from run to run.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES: Final = {1: 0, 3: 2}
"""PNG's color type by number of channels: gray, RGB."""
_UP: Final = 2
"""PNG's filter type that stores the difference to the row above."""

_LEVEL: Final = 2
"""Effort of the deflate (0 to 9): a third smaller than 1 in 6 ms instead of 4, on one core."""


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode an image as PNG (ISO/IEC 15948).

    Args:
        image: (H, W) gray or (H, W, 3) in OpenCV's order, blue green red; uint8 or uint16.
    """
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image[:, :, ::-1] if image.ndim == 3 else image)
    bits = 8 * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    color_type = _COLOR_TYPES[image.shape[2] if image.ndim == 3 else 1]
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib_ng.compress(filtered.data, _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib_ng.crc32(data, zlib_ng.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
