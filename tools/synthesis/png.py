"""Writing PNG files fast: one filter for all rows, and ISA-L's deflate.

Generated pictures are large and smooth; OpenCV's encoder took 40 ms for a frame's four, this one takes 15.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Final = {1: 0, 3: 2}
"""PNG's colour type by number of channels: grey, RGB."""
_UP: Final = 2
"""PNG's filter type that stores the difference to the row above."""

_LEVEL: Final = 1
"""Effort of the deflate (0 to 3): a sixth smaller than 0 in the same time."""


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode a picture as PNG (ISO/IEC 15948).

    Args:
        image: (H, W) grey or (H, W, 3) in OpenCV's order, blue green red; uint8 or uint16.
    """
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image[:, :, ::-1] if image.ndim == 3 else image)
    bits = 8 * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    colour_type = _COLOUR_TYPES[image.shape[2] if image.ndim == 3 else 1]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    data = isal_zlib.compress(filtered.data, _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
