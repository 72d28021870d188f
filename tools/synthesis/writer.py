"""Writes a recording's frames in the dataset's layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import encode, swap_red_and_blue
from loaders.system.os_errors import naming
from models.xr_egopose import JOINTS
from tools.dataset.layout import ReleaseRecording
from tools.parallel import Progress
from tools.synthesis.body import INDEX
from tools.synthesis.frame_generator import Frame, FrameGenerator
from tools.synthesis.render import Renderer

Modality = Literal["rgba", "json", "worldp", "depth", "objectId", "rot"]
MODALITIES: Final[tuple[Modality, ...]] = get_args(Modality)

FRAMES_PER_TASK: Final = 16
"""Frames written by a process at a time."""

_DOT_RADIUS: Final = 6
_SUBPIXEL_BITS: Final = 8


@dataclass(frozen=True)
class Task:
    """Some frames of a recording, to be written."""

    recording: ReleaseRecording
    number: int
    """Number of the environment, from 1."""
    frames: int
    """Length of the whole recording (frames)."""
    first: int
    last: int
    """First and last frame to write, both included, counted from 1."""
    modalities: tuple[str, ...]
    seed: int
    dots: bool


def write(task: Task, progress: Progress) -> None:
    """Render and write the frames of a task into existing folders."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # every core has a process of its own
    try:
        generator = _frame_generator(task.recording.subject, task.number, task.frames, task.seed)
        for frame in generator.frames(task.first, task.last):
            contents = _contents(frame, task.modalities, task.dots)
            for modality, content in contents:
                path = task.recording.file(modality, frame.number)
                with naming(path):
                    path.write_bytes(content)
            progress.add(1, sum(len(content) for _, content in contents))
    finally:
        cv2.setNumThreads(threads)


def dot_colors() -> NDArray[np.uint8]:
    """Return the colors (16, 3), red green blue, of the dots on the joints of `models.skeleton.JOINTS`."""
    hues = np.arange(len(JOINTS)) * (180 / len(JOINTS))
    # neighboring hues alternate between light and dark
    values = np.where(np.arange(len(JOINTS)) % 2, 150, 255)
    hsv = np.stack([hues.round(), np.full(len(JOINTS), 255), values], axis=-1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0], np.uint8)


_frame_generator: Final = lru_cache(maxsize=2)(FrameGenerator)
_renderer: Final = lru_cache(maxsize=1)(Renderer)


def _contents(frame: Frame, modalities: Sequence[str], dots: bool) -> list[tuple[str, bytes]]:
    """Return (modality, content of its file)."""
    contents = [("json", _json(frame.labels)), ("rot", _json(frame.rotations))]
    if not set(modalities) <= {"json", "rot"}:
        renderer = _renderer()
        scene = frame.scene
        images = renderer.render(scene)
        color = _dotted(images.color, frame) if dots else images.color
        draw: dict[str, Callable[[], NDArray[Any]]] = {
            "rgba": lambda: swap_red_and_blue(color),
            "worldp": lambda: renderer.world(images, scene.world_to_camera),
            "depth": lambda: renderer.depth(images),
            "objectId": lambda: renderer.objects(images),
        }
        contents += [(name, encode(image(), ".png")) for name, image in draw.items() if name in modalities]
    return [(modality, content) for modality, content in contents if modality in modalities]


def _dotted(image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Return a copy with a disc on each of the 16 joints, exactly at its label."""
    dotted = image.copy()
    for name, color in zip(JOINTS, dot_colors()[:, ::-1].tolist(), strict=True):
        column, row = np.rint(frame.pixels[INDEX[name]] * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
        radius = _DOT_RADIUS << _SUBPIXEL_BITS
        cv2.circle(dotted, (column, row), radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return dotted


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
