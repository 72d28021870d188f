"""Opening a source by its name, and asking it: whatever its class does wrong is one line."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.own_class import find_class
from loaders.codecs import Image
from loaders.errors import Failure, InputError, printable
from models.camera import Camera
from models.skeleton import Skeleton
from tools.sources.source import SPLITS, FrameError, FrameLabels, Recording, Source, SurveyedFrame

T = TypeVar("T")

LARGEST: Final = float(np.finfo(np.float32).max) / 1000
"""A larger label may become infinite as float32 when it is scaled to the size of an image."""


@functools.lru_cache(maxsize=8)
def open_source(name: str, root: Path) -> Source:
    """Return a source, opened once in a process.

    Args:
        name: of its class, see `engine.own_class.find_class`.
        root: folder or file of the dataset.

    Raises:
        InputError: it cannot be found, opened, or does not say what it must; in one line.
    """
    where, colon, attribute = name.rpartition(":")
    if where.endswith(".py"):  # processes of a cluster may work elsewhere
        name = f"{Path(where).resolve()}{colon}{attribute}"
    kind = find_class(name, Source)  # type: ignore[type-abstract]
    with _answering(name, f"opening {root}"):
        source = kind(root)
    source.spec = name
    for key, expected in (("name", str), ("camera", Camera), ("skeleton", Skeleton)):
        _check_type(getattr(source, key, None), expected, f"{name} has as its {key}")
    return source


def find_recordings(source: Source, splits: Sequence[str], subjects: Sequence[str] = ()) -> list[Recording]:
    """Return the recordings of some splits and subjects; no subjects takes all.

    They are in the order of split, subject, name. Raises InputError if there are none, or if they cannot be told apart.
    """
    with _answering(source.spec, "looking for recordings"):
        found = list(source.find(splits, subjects))
    for recording in found:
        _check_type(recording, Recording, f"{source.spec} returns as a recording")
        if recording.split not in SPLITS:
            raise InputError(
                f"{source.spec} has a recording of the split {recording.split!r}: give {', '.join(SPLITS)}"
            )
        for text in (recording.subject, recording.name):
            if not isinstance(text, str) or not text or printable(text) != text:
                raise InputError(f"{source.spec} names a recording {text!r}: names are texts that can be printed")
    found = [one for one in found if one.split in splits and (not subjects or one.subject in subjects)]
    if absent := sorted(set(subjects) - {recording.subject for recording in found}):
        raise InputError(f"no subject {', '.join(absent)} below {source.root}")
    if not found:
        raise InputError(f"{source.root} holds no recordings of {', '.join(splits)} that {source.spec} knows")
    found.sort(key=lambda recording: (SPLITS.index(recording.split), recording.subject, recording.name))
    for before, after in itertools.pairwise(found):
        if (before.split, before.subject, before.name) == (after.split, after.subject, after.name):
            raise InputError(f"{source.spec} has two recordings {after.subject} {after.name} in {after.split}")
    return found


def survey(source: Source, recording: Recording, components: Sequence[str]) -> Iterator[SurveyedFrame]:
    """Yield what can be seen of each frame, see `Source.survey`."""
    with _answering(source.spec, f"listing the frames of {recording.path}"):
        for frame in source.survey(recording, components):
            yield replace(frame, number=operator.index(frame.number))


def read_labels(source: Source, recording: Recording, frame: int) -> FrameLabels:
    """Return a frame's labels, with positions in the image. Raises FrameError if they are of no use."""
    with _answering(source.spec, _place(recording, frame)):
        labels = source.labels(recording, frame)
    _check_type(labels, FrameLabels, f"{source.spec} returns as the labels of {_place(recording, frame)}")
    if not isinstance(labels.action, str) or printable(labels.action) != labels.action:
        raise FrameError("action is no text that can be printed")
    joints_3d = _positions(source, "joints_3d", labels.joints_3d, 3)
    given = labels.joints_2d
    joints_2d = source.camera.project(joints_3d) if given is None else _positions(source, "joints_2d", given, 2)
    return FrameLabels(joints_3d, joints_2d, labels.action, labels.generated)


def read_image(source: Source, recording: Recording, frame: int) -> bytes | Image:
    """Return a frame's image, see `Source.image`. Raises FrameError if there is none."""
    with _answering(source.spec, _place(recording, frame)):
        image = source.image(recording, frame)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            shape = f"{image.dtype} {image.shape}"
            raise InputError(f"{source.spec} returns an image {shape}: give uint8 (H, W, 3), RGB, or a file's bytes")
        return np.ascontiguousarray(image)
    _check_type(image, bytes, f"{source.spec} returns as the image of {_place(recording, frame)}")
    return image


def read_component(source: Source, recording: Recording, frame: int, name: str) -> bytes:
    """Return another component of a frame. Raises FrameError if there is none."""
    with _answering(source.spec, _place(recording, frame)):
        content = source.component(recording, frame, name)
    _check_type(content, bytes, f"{source.spec} returns as {name} of {_place(recording, frame)}")
    return content


def _place(recording: Recording, frame: int) -> str:
    return f"{recording.path}, frame {frame}"


def _positions(source: Source, name: str, values: Any, size: int) -> NDArray[np.float64]:
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{source.spec} returns {name} that are no table of numbers") from None
    if points.shape != (len(source.skeleton), size):
        raise InputError(
            f"{source.spec} returns {name} of shape {points.shape}; its skeleton wants {(len(source.skeleton), size)}"
        )
    if not np.isfinite(points).all():
        raise FrameError(f"{name} lacks values")
    if np.abs(points).max() > LARGEST:
        raise FrameError(f"{name} holds values beyond 32 bits")
    return points


@contextlib.contextmanager
def _answering(spec: str, what: str) -> Iterator[None]:
    """Say in one line what a user's class was doing when it raised something that it should not."""
    try:
        yield
    except (FrameError, InputError, Failure):
        raise
    except Exception as error:
        raise InputError(f"{spec}, {what}: {type(error).__name__}: {error}") from error


def _check_type(value: Any, expected: type, what: str) -> None:
    if not isinstance(value, expected):
        raise InputError(f"{what} a {type(value).__name__}, not a {expected.__name__}")
