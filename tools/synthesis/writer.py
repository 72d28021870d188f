"""Writes a recording's frames in the dataset's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.system.os_errors import naming
from models.skeleton import JOINTS
from tools.dataset.layout import Environment
from tools.parallel import Progress
from tools.synthesis.body import INDEX
from tools.synthesis.png import encode_png
from tools.synthesis.recording import Frame, Recording
from tools.synthesis.render import Renderer

Modality = Literal["rgba", "json", "worldp", "depth", "objectId", "rot"]
MODALITIES: Final[tuple[Modality, ...]] = get_args(Modality)

FRAMES_PER_TASK: Final = 16
"""Frames written by a process at a time."""

_DOT_RADIUS: Final = 6
_SUBPIXEL_BITS: Final = 8


@dataclass(frozen=True)
class Task:
    """A stretch of a recording to write."""

    environment: Environment
    number: int
    """Of the environment, from 1."""
    frames: int
    """Frames in the whole recording."""
    first: int
    last: int
    """Frames to write, from 1, both included."""
    modalities: tuple[str, ...]
    seed: int
    dots: bool


def write(task: Task, progress: Progress) -> None:
    """Render and write the frames of a task into existing folders."""
    threads = cv2.getNumThreads()
    # the processes already fill the cores
    cv2.setNumThreads(1)
    try:
        recording = _recording(task.environment.subject, task.number, task.frames, task.seed)
        for frame in recording.frames(task.first, task.last):
            contents = _contents(frame, task.modalities, task.dots)
            for modality, content in contents:
                path = task.environment.file(modality, frame.number)
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


@lru_cache(maxsize=2)
def _recording(subject: str, environment: int, frames: int, seed: int) -> Recording:
    return Recording(subject, environment, frames, seed)


@lru_cache(maxsize=1)
def _renderer() -> Renderer:
    return Renderer()


def _contents(frame: Frame, modalities: Sequence[str], dots: bool) -> list[tuple[str, bytes]]:
    """Return each modality's file content."""
    contents = []
    if "json" in modalities:
        contents.append(("json", _json(frame.labels)))
    if "rot" in modalities:
        contents.append(("rot", _json(frame.rotations)))
    if set(modalities) <= {"json", "rot"}:
        return contents
    renderer = _renderer()
    images = renderer.render(frame.scene)
    if "rgba" in modalities:
        image = _dotted(images.color, frame) if dots else images.color
        contents.append(("rgba", encode_png(image)))
    if "worldp" in modalities:
        world = renderer.world(images, frame.scene.world_to_camera)
        contents.append(("worldp", encode_png(world)))
    if "depth" in modalities:
        contents.append(("depth", encode_png(renderer.depth(images))))
    if "objectId" in modalities:
        contents.append(("objectId", encode_png(renderer.objects(images))))
    return contents


def _dotted(image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Paint a disc on each of the 16 joints, exactly where its label is."""
    dotted = image.copy()
    for name, color in zip(JOINTS, dot_colors()[:, ::-1].tolist(), strict=True):
        column, row = np.rint(frame.pixels[INDEX[name]] * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
        radius = _DOT_RADIUS << _SUBPIXEL_BITS
        cv2.circle(dotted, (column, row), radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return dotted


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
