"""Images of frames: decoding them, saying what is wrong with them, and encoding them as shards store them."""

from __future__ import annotations

from typing import Any, Final

import cv2
import kornia_rs
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import PNG_END, PNG_HEADER, PNG_TAIL, Image, decode_stored, encode, png_layout, swap_red_and_blue
from loaders.errors import InputError
from loaders.preprocessing import Preprocessing
from models.camera import Camera
from tools.sources.source import FrameError

_KORNIA_DECODERS: Final = {8: kornia_rs.io.decode_image_png_u8, 16: kornia_rs.io.decode_image_png_u16}
_KORNIA_MODES: Final = {2: "rgb", 6: "rgba"}
"""By the bit depths and the color types of a PNG's header (ISO/IEC 15948); others are left to OpenCV."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE: Final = b"\xff\xd8\xff"


def encode_image(image: bytes | Image, preprocessing: Preprocessing) -> bytes:
    """Turn a frame's image, see `Source.image`, into the stored image. Raises FrameError with the reason."""
    pixels = decode_image(image, preprocessing.frame)
    if preprocessing.format == "source":
        if isinstance(image, bytes) and image.startswith(_PNG_SIGNATURE):
            return image
        raise InputError("the format source keeps PNG files as they are, and frames are none: take jpeg, png or raw")
    # of an unusual PNG 8 bits and at least three channels are stored; alpha is dropped later
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    return preprocessing.encode(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels))


def decode_image(image: bytes | Image, camera: Camera) -> NDArray[Any]:
    """Return the pixels (H, W) or (H, W, 3 or 4) of a frame's image. Raises FrameError with what is wrong with it."""
    if isinstance(image, bytes) and image.startswith(_PNG_SIGNATURE):
        return decode_png("rgba", image, camera)
    pixels: NDArray[Any]
    if isinstance(image, bytes):
        member = "rgba.jpg" if image.startswith(_JPEG_SIGNATURE) else "rgba"
        try:
            # what is damaged is not decoded around, and labels belong to pixels as they are stored
            pixels = decode_stored(np.frombuffer(image, np.uint8), member)
        except ValueError:
            raise FrameError("rgba undecodable: damaged") from None
    else:
        pixels = image
    height, width = pixels.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise FrameError(f"rgba is {width}x{height}, not {camera.width}x{camera.height}")
    return pixels


def encode_exact(modality: str, content: bytes, preprocessing: Preprocessing) -> bytes:
    """Crop and resize a PNG whose values are no colors like the image, values untouched: worldp, depth, objectId.

    Raises FrameError with the reason.
    """
    values = decode_png(modality, content, preprocessing.frame)
    if preprocessing.format == "source":
        return content
    size = preprocessing.image_size, preprocessing.image_size
    # the exact kind takes the pixel under each center; INTER_NEAREST itself is off by up to half a pixel
    return encode(cv2.resize(preprocessing.cut(values), size, interpolation=cv2.INTER_NEAREST_EXACT), ".png")


def decode_png(modality: str, content: bytes, camera: Camera) -> NDArray[Any]:
    """Decode a whole PNG of a camera, values untouched, uint8 or uint16. Raises FrameError with what is wrong with it.

    Returns (H, W) gray or (H, W, 3 or 4) red, green, blue and alpha.
    """
    if defect := png_defect(modality, content[:PNG_HEADER], content[-PNG_TAIL:], camera):
        raise FrameError(f"{modality} {defect}")
    depth, mode = content[24], _KORNIA_MODES.get(content[25])
    decode = _KORNIA_DECODERS.get(depth)
    try:
        if mode and decode:
            return np.asarray(decode(content, (camera.height, camera.width), mode))
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception:  # kornia-rs raises nothing more special
        image = None
    if image is None:
        raise FrameError(f"{modality} undecodable: damaged")
    return swap_red_and_blue(image)


def png_defect(modality: str, head: bytes, tail: bytes, camera: Camera) -> str:
    """Return what is visibly wrong with a frame's PNG, given its two ends; empty if nothing is."""
    if not head:
        return "undecodable: the file is empty"
    if not head.startswith(_PNG_SIGNATURE) or head[12:16] != b"IHDR" or len(head) < PNG_HEADER:
        return "undecodable: not a PNG"
    if PNG_END not in tail:
        return "undecodable: cut short"
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if (width, height) != (camera.width, camera.height):
        return f"is {width}x{height}, not {camera.width}x{camera.height}"
    if modality in ("depth", "objectId"):  # whose values are stored exactly; of other kinds they would change
        try:
            png_layout(np.frombuffer(head, np.uint8))
        except ValueError as error:
            return f"is {error}"
    return ""
