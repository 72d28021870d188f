"""One frame of the dataset as the members of one tar sample."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import kornia_rs
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import encode, swap_red_and_blue
from loaders.errors import Failure
from loaders.format.sample import IMAGE_MEMBERS, JSON, META, POSE, WORLDP, encode_meta, encode_pose
from loaders.preprocessing import Preprocessing, center_square
from models.camera import XR_EGOPOSE
from tools.dataset.layout import FrameLabels, LabelError, Recording, read_labels

Pixels = NDArray[Any]
"""uint8 or uint16."""

PAIRED: Final = ("rgba", "json", "worldp", "depth", "objectId")
"""Modalities of which every frame has a file; few frames have ``rot``."""

PNG_HEAD: Final = 26
"""Bytes of a PNG up to and including its size, bit depth and color type (bytes)."""
PNG_TAIL: Final = 4096
"""How far from the end a PNG's end marker is looked for; some writers add a little after it (bytes)."""

_KORNIA_DECODERS: Final = {8: kornia_rs.io.decode_image_png_u8, 16: kornia_rs.io.decode_image_png_u16}
_KORNIA_MODES: Final = {2: "rgb", 6: "rgba"}
"""By the bit depths and the color types of a PNG's header (ISO/IEC 15948); others are left to OpenCV."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"


class FrameError(ValueError):
    """A frame cannot become a sample; the message is the reason."""


@dataclass(frozen=True)
class SampleFormat:
    """What a sample holds beside its labels."""

    components: tuple[str, ...]
    """Among rgba, json, worldp; pose and meta are always there."""
    preprocessing: Preprocessing
    """What is done to its images."""


def encode_sample(recording: Recording, meta: Sequence[int], sample_format: SampleFormat) -> list[tuple[str, bytes]]:
    """Return a sample's members as (name, content), in their order.

    Args:
        recording: where the frame lies.
        meta: (4,) subject, environment, frame, action.
        sample_format: what the sample holds.

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
    components, preprocessing = sample_format.components, sample_format.preprocessing
    members = []
    if "rgba" in components:
        image = encode_image(read_file(recording, "rgba", frame), preprocessing)
        members.append((IMAGE_MEMBERS[preprocessing.format], image))
    if "json" in components:
        members.append((JSON, text))
    if "worldp" in components:
        members.append((WORLDP, encode_worldp(read_file(recording, "worldp", frame), preprocessing)))
    stored_2d = XR_EGOPOSE.transfer(labels.joints_2d, preprocessing.camera(XR_EGOPOSE))
    members.append((POSE, encode_pose(stored_2d, labels.joints_3d)))
    members.append((META, encode_meta(subject, environment, frame, action)))
    return members


def encode_image(content: bytes, preprocessing: Preprocessing) -> bytes:
    """Turn the bytes of an rgba PNG into the stored image. Raises FrameError with the reason."""
    image = decode_png("rgba", content)
    return content if preprocessing.format == "source" else preprocessing.encode(_three_channels(image))


def encode_worldp(content: bytes, preprocessing: Preprocessing) -> bytes:
    """Crop and resize a worldp PNG like the image, values untouched. Raises FrameError with the reason."""
    positions = decode_png("worldp", content)
    if preprocessing.format == "source":
        return content
    size = preprocessing.image_size, preprocessing.image_size
    # the exact kind takes the pixel under each center; INTER_NEAREST itself is off by up to half a pixel
    return encode(cv2.resize(center_square(positions), size, interpolation=cv2.INTER_NEAREST_EXACT), ".png")


def decode_png(modality: str, content: bytes) -> Pixels:
    """Decode a whole 1280x800 PNG, values untouched.

    Returns:
        (800, 1280) gray or (800, 1280, 3 or 4) red, green, blue and alpha.

    Raises:
        FrameError: it says what is wrong with the PNG.
    """
    fault = png_fault(content[:PNG_HEAD], content[-PNG_TAIL:])
    if fault:
        raise FrameError(f"{modality} {fault}")
    depth, mode = content[24], _KORNIA_MODES.get(content[25])
    decode = _KORNIA_DECODERS.get(depth)
    try:
        if mode and decode:
            return np.asarray(decode(content, (XR_EGOPOSE.height, XR_EGOPOSE.width), mode))
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception:  # kornia-rs raises nothing more special
        image = None
    if image is None:
        raise FrameError(f"{modality} undecodable: damaged")
    return swap_red_and_blue(image)


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


def read_file(recording: Recording, modality: str, frame: int) -> bytes:
    """Return the bytes of a frame's file. Raises FrameError if there is none, Failure if it cannot be read."""
    path = recording.file(modality, frame)
    try:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            # a file belongs to a frame by its number; the rest of its name may be unusual
            path = _unusual(recording, modality).get(frame, path)
            return path.read_bytes()
    except OSError as error:
        if leads_nowhere(path):
            raise FrameError(f"{modality} is a link to nothing") from None
        if isinstance(error, FileNotFoundError):
            raise FrameError(f"no {modality} file") from None
        raise Failure(f"{path} cannot be read ({error.strerror}): repair it, then run the command again") from None


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


@functools.lru_cache(maxsize=1024)
def _unusual(recording: Recording, modality: str) -> dict[int, Path]:
    """Return the files whose names are not the usual ones; samples of all recordings are read in turn."""
    return {frame: path for frame, path in recording.files(modality).items() if path != recording.file(modality, frame)}


def _three_channels(image: Pixels) -> NDArray[np.uint8]:
    """Return 8 bit and at least three channels: what sharding stores of an unusual PNG. Alpha is dropped later."""
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image, np.uint8)
