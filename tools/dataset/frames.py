"""One frame of the dataset as the members of one tar sample."""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import kornia_rs
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import PNG_END, PNG_HEADER, PNG_TAIL, encode, png_layout, swap_red_and_blue
from loaders.errors import Failure, printable
from loaders.format.sample import (
    COMPONENT_MEMBERS,
    IMAGE_MEMBERS,
    JSON,
    META,
    NO_ROTATIONS,
    POSE,
    ROT,
    VISIBLE,
    encode_meta,
    encode_pose,
    encode_visible,
    sample_key,
)
from loaders.preprocessing import Preprocessing
from models.xr_egopose import CAMERA
from tools.dataset.layout import FrameError, MissingFileError, Recording, differ, read_labels

PAIRED: Final = ("rgba", "json", "worldp", "depth", "objectId")
"""Modalities of which every frame has a file; few frames have ``rot``."""

_KORNIA_DECODERS: Final = {8: kornia_rs.io.decode_image_png_u8, 16: kornia_rs.io.decode_image_png_u16}
_KORNIA_MODES: Final = {2: "rgb", 6: "rgba"}
"""By the bit depths and the color types of a PNG's header (ISO/IEC 15948); others are left to OpenCV."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


_LARGEST_DISTANCE: Final = 3.0
"""Largest distance of a joint from the camera (metres), which is worn on the head: the tallest person ever measured was
2.72 m tall. Joints beyond it are a defect, but sharding stores the frame: its 2D labels may be right, and
`tools.validate` and `tools.verify` name it before anyone trains on it."""

_LONGEST_KEY: Final = (
    tarfile.LENGTH_NAME - 1 - max(map(len, (*IMAGE_MEMBERS.values(), *COMPONENT_MEMBERS.values(), POSE, META, VISIBLE)))
)
"""Length of the longest key whose members have names that a plain tar can hold (characters)."""


def name_defect(recording: Recording, frame: int) -> str:
    """Return why no sample can have the names of a recording in its key; empty if a sample can."""
    if recording.path.parts[-3:-1] != (recording.subject, recording.name):
        return "the name of its folder cannot be printed"
    excess = len(sample_key(recording.subject, recording.name, frame)) - _LONGEST_KEY
    return f"the names of its folders are too long for a tar: {excess} characters too many" if excess > 0 else ""


def number_defect(frame: int) -> str:
    """Return why no sample can store a frame's number; empty if a sample can."""
    return "frame number beyond 32 bits" if frame > np.iinfo(np.int32).max else ""


def double_defect(modality: str, paths: Sequence[Path]) -> str:
    """Return why a frame's file of a modality is ambiguous; empty if it is not."""
    if len(paths) < 2 or not differ(paths):
        return ""
    return f"{len(paths)} {modality} files that differ: {', '.join(printable(path.name) for path in paths)}"


def distance_defect(joints_3d: NDArray[np.floating[Any]]) -> str:
    """Return what is wrong if any of the joints (16, 3), metres, camera frame, is impossibly far away; else empty."""
    # float32 would overflow
    distance = np.linalg.norm(joints_3d.astype(np.float64), axis=1).max()
    return f"a joint more than {_LARGEST_DISTANCE:g} m from the camera" if distance > _LARGEST_DISTANCE else ""


def encode_sample(
    recording: Recording, meta: Sequence[int], components: Sequence[str], preprocessing: Preprocessing
) -> list[tuple[str, bytes]]:
    """Return a sample's members as (name, content), in their order.

    Args:
        recording: where the frame lies.
        meta: (4,) subject, environment, frame, action.
        components: what the sample holds beside its labels, among the modalities.
        preprocessing: what is done to its images.

    Raises:
        FrameError: the frame lacks something or is damaged.
        Failure: a file cannot be read.
    """
    subject, environment, frame, action = meta
    text = read_file(recording, "json", frame)
    labels = read_labels(text)
    members = []
    if "rgba" in components:
        image = encode_image(read_file(recording, "rgba", frame), preprocessing)
        members.append((IMAGE_MEMBERS[preprocessing.format], image))
    for modality, member in COMPONENT_MEMBERS.items():
        if modality not in components:
            continue
        if member == JSON:
            content = text
        elif member == ROT:
            content = read_rotations_file(recording, frame)
        else:
            content = encode_exact(modality, read_file(recording, modality, frame), preprocessing)
        members.append((member, content))
    joints_2d = CAMERA.transfer(labels.joints_2d, preprocessing.stored)
    pose = np.concatenate([joints_2d, labels.joints_3d], axis=1, dtype=np.float32)
    members.append((POSE, encode_pose(pose[:, :2], pose[:, 2:])))
    members.append((META, encode_meta(subject, environment, frame, action)))
    members.append((VISIBLE, encode_visible(preprocessing.visibility(pose))))
    return members


def encode_image(content: bytes, preprocessing: Preprocessing) -> bytes:
    """Turn the bytes of an rgba PNG into the stored image. Raises FrameError with the reason."""
    image = decode_png("rgba", content)
    if preprocessing.format == "source":
        return content
    # of an unusual PNG 8 bits and at least three channels are stored; alpha is dropped later
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    return preprocessing.encode(np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image))


def encode_exact(modality: str, content: bytes, preprocessing: Preprocessing) -> bytes:
    """Crop and resize a PNG whose values are no colors like the image, values untouched: worldp, depth, objectId.

    Raises FrameError with the reason.
    """
    values = decode_png(modality, content)
    if preprocessing.format == "source":
        return content
    size = preprocessing.image_size, preprocessing.image_size
    # the exact kind takes the pixel under each center; INTER_NEAREST itself is off by up to half a pixel
    return encode(cv2.resize(preprocessing.cut(values), size, interpolation=cv2.INTER_NEAREST_EXACT), ".png")


def decode_png(modality: str, content: bytes) -> NDArray[Any]:
    """Decode a whole 1280x800 PNG, values untouched, uint8 or uint16. Raises FrameError with what is wrong with it.

    Returns (800, 1280) gray or (800, 1280, 3 or 4) red, green, blue and alpha.
    """
    if defect := png_defect(modality, content[:PNG_HEADER], content[-PNG_TAIL:]):
        raise FrameError(f"{modality} {defect}")
    depth, mode = content[24], _KORNIA_MODES.get(content[25])
    decode = _KORNIA_DECODERS.get(depth)
    try:
        if mode and decode:
            return np.asarray(decode(content, (CAMERA.height, CAMERA.width), mode))
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception:  # kornia-rs raises nothing more special
        image = None
    if image is None:
        raise FrameError(f"{modality} undecodable: damaged")
    return swap_red_and_blue(image)


def png_defect(modality: str, head: bytes, tail: bytes) -> str:
    """Return what is visibly wrong with a frame's PNG, given its two ends; empty if nothing is."""
    if not head:
        return "undecodable: the file is empty"
    if not head.startswith(_PNG_SIGNATURE) or head[12:16] != b"IHDR" or len(head) < PNG_HEADER:
        return "undecodable: not a PNG"
    if PNG_END not in tail:
        return "undecodable: cut short"
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if (width, height) != (CAMERA.width, CAMERA.height):
        return f"is {width}x{height}, not {CAMERA.width}x{CAMERA.height}"
    if modality in ("depth", "objectId"):  # whose values are stored exactly; of other kinds they would change
        try:
            png_layout(np.frombuffer(head, np.uint8))
        except ValueError as error:
            return f"is {error}"
    return ""


def read_file(recording: Recording, modality: str, frame: int) -> bytes:
    """Return the bytes of a frame's file. Raises FrameError if there is none, Failure if it cannot be read."""
    path = recording.file(modality, frame)
    try:
        if not path.exists():
            # a file belongs to a frame by its number; the rest of its name may be unusual
            path = _unusual(recording, modality).get(frame, path)
        return path.read_bytes()
    except OSError as error:
        if leads_nowhere(path):
            raise FrameError(f"{modality} is a link to nothing") from None
        if isinstance(error, FileNotFoundError):
            raise MissingFileError(f"no {modality} file") from None
        raise Failure(f"{path} cannot be read ({error.strerror}): repair it, then run the command again") from None


def read_rotations_file(recording: Recording, frame: int) -> bytes:
    """Return the bytes of a frame's rot file, or what stands for it where there is none.

    Raises FrameError if it is empty or a link to nothing, Failure if it cannot be read.
    """
    try:
        content = read_file(recording, "rot", frame)
    except MissingFileError:
        return NO_ROTATIONS
    if not content:
        raise FrameError("rot file is empty")
    return content


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


@functools.lru_cache(maxsize=1024)
def _unusual(recording: Recording, modality: str) -> dict[int, Path]:
    """Return the files whose names are not the usual ones; samples of all recordings are read in turn."""
    return {frame: path for frame, path in recording.files(modality).items() if path != recording.file(modality, frame)}
