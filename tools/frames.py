"""One frame of the dataset as the members of one tar sample."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.command import Failure
from loaders.sample import IMAGE_MEMBERS, JSON, META, POSE, WORLDP, encode_array, encode_meta, encode_pose
from models.camera import CROP_LEFT, XR_EGOPOSE, FisheyeCamera
from tools.dataset import Environment, FrameLabels, LabelError, read_labels

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

PAIRED: Final = ("rgba", "json", "worldp", "depth", "objectId")
"""Modalities of which every frame has a file; ``rot`` is only sporadically there."""

PNG_HEAD: Final = 24
"""Bytes of a PNG up to and including its width and height (bytes)."""
PNG_TAIL: Final = 4096
"""How far from the end a PNG's end marker is looked for; some writers add a little after it (bytes)."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"


class FrameError(ValueError):
    """A frame cannot become a sample; the message is the reason."""


@dataclass(frozen=True)
class SampleForm:
    """What a sample holds, and in which form."""

    components: tuple[str, ...]
    """Among rgba, json, worldp; pose and meta are always there."""
    image_format: str
    """jpeg, png, raw or source."""
    image_size: int
    """Side of the stored picture (pixels); source keeps the frame's own size."""
    quality: int
    """JPEG quality (0 to 100)."""

    @property
    def camera(self) -> FisheyeCamera:
        """The camera of the stored pictures."""
        return XR_EGOPOSE if self.image_format == "source" else XR_EGOPOSE.centre_square(self.image_size)


def encode_sample(recording: Environment, meta: Sequence[int], form: SampleForm) -> list[tuple[str, bytes]]:
    """Return a sample's members as (name, content), in their order.

    Args:
        recording: where the frame lies.
        meta: (4,) subject, environment, frame, action.
        form: what the sample holds.

    Raises:
        FrameError: the frame lacks something or is damaged.
        Failure: a file cannot be read.
    """
    subject, environment, frame, action = (int(value) for value in meta)
    text = read_file(recording, "json", frame)
    try:
        labels = frame_labels(text)
    except LabelError as error:
        raise FrameError(str(error)) from None
    members = []
    if "rgba" in form.components:
        content = read_file(recording, "rgba", frame)
        members.append((IMAGE_MEMBERS[form.image_format], encode_picture(content, form)))
    if "json" in form.components:
        members.append((JSON, text))
    if "worldp" in form.components:
        members.append((WORLDP, encode_worldp(read_file(recording, "worldp", frame), form)))
    members.append((POSE, encode_pose(XR_EGOPOSE.transfer(labels.joints_2d, form.camera), labels.joints_3d)))
    members.append((META, encode_meta(subject, environment, frame, action)))
    return members


def encode_picture(content: bytes, form: SampleForm) -> bytes:
    """Turn the bytes of an rgba PNG into the stored picture. Raises FrameError with the reason."""
    # three channels of 8 bit, B G R; alpha is dropped, not blended
    image = decode_png("rgba", content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if form.image_format == "source":
        return content
    square = _centre_square(image, form.image_size, cv2.INTER_AREA)
    if form.image_format == "raw":
        return encode_array(square[:, :, ::-1])
    if form.image_format == "jpeg":
        return _encode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, form.quality])
    return _encode(".png", square, [])


def encode_worldp(content: bytes, form: SampleForm) -> bytes:
    """Crop and resize a worldp PNG like the picture, values untouched. Raises FrameError with the reason."""
    positions = decode_png("worldp", content, cv2.IMREAD_UNCHANGED)
    if form.image_format == "source":
        return content
    # the exact kind takes the pixel under each centre; INTER_NEAREST itself is off by up to half a pixel
    return _encode(".png", _centre_square(positions, form.image_size, cv2.INTER_NEAREST_EXACT), [])


def decode_png(modality: str, content: bytes, flags: int) -> Pixels:
    """Decode a whole 1280x800 PNG with OpenCV. Raises FrameError that says what is wrong with it."""
    fault = png_fault(content[:PNG_HEAD], content[-PNG_TAIL:])
    if fault:
        raise FrameError(f"{modality} {fault}")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise FrameError(f"{modality} undecodable: damaged")
    return image  # type: ignore[return-value]


def png_fault(head: bytes, tail: bytes) -> str | None:
    """Return what is visibly wrong with a frame's PNG, given its two ends; None if nothing is."""
    if not head:
        return "undecodable: the file is empty"
    if not head.startswith(_PNG_SIGNATURE) or head[12:16] != b"IHDR" or len(head) < PNG_HEAD:
        return "undecodable: not a PNG"
    if _PNG_END not in tail:
        return "undecodable: cut short"
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if (width, height) != (XR_EGOPOSE.width, XR_EGOPOSE.height):
        return f"is {width}x{height}, not {XR_EGOPOSE.width}x{XR_EGOPOSE.height}"
    return None


def frame_labels(text: bytes) -> FrameLabels:
    """Read the labels out of the bytes of a frame's JSON. Raises LabelError with the reason."""
    if not text:
        raise LabelError("json file is empty")
    return read_labels(text)


def read_file(recording: Environment, modality: str, frame: int) -> bytes:
    """Return the bytes of a frame's file. Raises FrameError if there is none, Failure if it cannot be read."""
    path = recording.file(modality, frame)
    try:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            # a file belongs to a frame by its number; the rest of its name may be unusual
            unusual = _listing(recording, modality).get(frame)
            if unusual is None:
                raise FrameError(f"no {modality} file") from None
            return unusual.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read ({error.strerror}): mend it, then run the command again") from None


@functools.lru_cache(maxsize=4)
def _listing(recording: Environment, modality: str) -> dict[int, Path]:
    return recording.files(modality)


def _centre_square(image: Pixels, size: int, interpolation: int) -> Pixels:
    square = image[:, CROP_LEFT : CROP_LEFT + XR_EGOPOSE.height]
    if size == XR_EGOPOSE.height:
        return square.copy()
    return cv2.resize(square, (size, size), interpolation=interpolation)  # type: ignore[return-value]


def _encode(extension: str, image: Pixels, options: Sequence[int]) -> bytes:
    return cv2.imencode(extension, image, options)[1].tobytes()
