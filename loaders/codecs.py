"""Encoding and decoding of images and arrays in host memory: nothing else does it."""

from __future__ import annotations

import io
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""(n,) the bytes of a file or of a part of it."""
Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""

_STORED: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""Three channels, 8 or 16 bit; labels belong to pixels as they are stored, whatever the orientation says."""

_PNG_OPTIONS: Final = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_COMPRESSION, 1)
"""World positions come out a third smaller than with OpenCV's defaults, in the same time; images no larger."""
_PNG_BEGINS: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 6: 4}
"""By the color types of gray, RGB and RGBA (ISO/IEC 15948)."""
PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
PNG_TAIL: Final = 4096
"""How far from the end a PNG's end marker is looked for; some writers add a little after it (bytes)."""
PNG_HEADER: Final = 33
"""Bytes of a PNG's signature and its first chunk."""


def decode(data: Bytes) -> Image | None:
    """Decode any image to RGB (H, W, 3), the way its orientation says. None if it cannot be decoded."""
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]
    except cv2.error:
        return None


def encode(image: NDArray[Any], extension: str, *, quality: int = 95) -> bytes:
    """Encode an RGB image (H, W) or (H, W, 3 or 4), 8 or 16 bit, as the format of a file name's extension.

    Args:
        image: the image.
        extension: such as ".png".
        quality: of a ".jpg" (1 to 100).
    """
    options = {".jpg": (cv2.IMWRITE_JPEG_QUALITY, quality), ".png": _PNG_OPTIONS}.get(extension, ())
    return cv2.imencode(extension, swap_red_and_blue(image), options)[1].tobytes()


def encode_array(array: NDArray[Any]) -> bytes:
    """Encode as .npy; the array's bytes are the file's tail, which is how they are read without parsing."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def swap_red_and_blue(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image (H, W) or (H, W, 3 or 4) in OpenCV's order of colors, or one in OpenCV's order as RGB."""
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def decode_stored(
    data: Bytes, member: str, memory: NDArray[np.uint8] | None = None, *, fast_dct: bool = False
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a member to RGB (H, W, 3), 8 or 16 bit as it is stored.

    Args:
        data: its bytes.
        member: its name, whose ending says what it is.
        memory: (H, W, 3), where a JPEG's pixels go; None allocates it.
        fast_dct: decode a JPEG by the fast integer DCT, which is about a gray level off on average.

    Raises:
        ValueError: it cannot be decoded, or ends too early.
    """
    if member.endswith(".jpg"):
        # damage is an error: OpenCV decodes around it
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=fast_dct, buffer=memory)  # type: ignore[no-any-return]
    try:
        image = cv2.imdecode(data, _STORED)
    except cv2.error:  # no bytes at all
        image = None
    if image is None:
        raise ValueError("not a readable image")
    return image  # type: ignore[return-value]


def decode_exact(data: Bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a PNG whose values are no colors to (H, W, C): gray, RGB or RGBA, 8 or 16 bit, as it is stored.

    Raises:
        ValueError: it cannot be decoded, ends too early, or is of another kind.
    """
    stored_size(data, ".png")
    layout = png_layout(data)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError("not a readable image")
    exact = np.atleast_3d(swap_red_and_blue(image))
    if PngLayout(exact.shape[2], 8 * exact.itemsize) != layout:
        raise ValueError("its transparent color makes another kind of it")
    return exact


class PngLayout(NamedTuple):
    """How a PNG stores a pixel."""

    channels: int
    bits: int
    """Of each channel."""


def png_layout(data: Bytes) -> PngLayout:
    """Return what a PNG's header says. Raises ValueError if OpenCV and DALI would not decode its values as they are."""
    if len(data) < PNG_HEADER:
        raise ValueError("not a PNG")
    bits, kind = int(data[24]), int(data[25])
    if bits not in (8, 16) or kind not in _PNG_CHANNELS:
        raise ValueError(f"a PNG of {bits} bits and color type {kind}, neither gray nor RGB nor RGBA of 8 or 16 bits")
    return PngLayout(_PNG_CHANNELS[kind], bits)


def stored_size(data: Bytes, member: str) -> tuple[int, int]:
    """Return height and width (pixels) that an image's header tells.

    Raises ValueError if it has none, or if it is a PNG that ends too early, which costs this DALI its memory.
    """
    if member.endswith(".jpg"):
        return simplejpeg.decode_jpeg_header(data)[:2]  # type: ignore[no-any-return]
    if data[:16].tobytes() != _PNG_BEGINS or len(data) < PNG_HEADER:
        raise ValueError("not a PNG")
    if PNG_END not in data[-PNG_TAIL:].tobytes():
        raise ValueError("it ends too early")
    width, height = data[16:24].view(">u4").tolist()
    return height, width
