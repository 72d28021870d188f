"""Opening a source by its name, and asking it: whatever its class does wrong is one line."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import operator
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.own_class import find_class
from loaders.codecs import Image
from loaders.errors import Failure, InputError, printable
from loaders.format.sample import COMPONENT_MEMBERS
from loaders.plain import from_plain
from models.camera import Camera
from models.skeleton import Skeleton
from tools.sources.source import SPLITS, FrameError, FrameLabels, Recording, Source, SurveyedFrame

T = TypeVar("T")

LARGEST: Final = float(np.finfo(np.float32).max) / 1000
"""A larger label may become infinite as float32 when it is scaled to the size of an image."""


@dataclass(frozen=True)
class Description:
    """What a manifest says of a source, and who reads it must get back."""

    name: str
    camera: Camera
    skeleton: Skeleton
    action_groups: dict[str, tuple[str, ...]]


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
    source.spec, source.root = name, root
    try:
        _check_description(source)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{name} does not say what tools.sources.Source asks for: {error}") from None
    return source


def find_recordings(source: Source, splits: Sequence[str], subjects: Sequence[str] = ()) -> list[Recording]:
    """Return the recordings of some splits and subjects; no subjects takes all.

    They are in the order of split, subject, name. Raises InputError if there are none, or if they cannot be told apart.
    """
    with _answering(source.spec, "looking for recordings"):
        known = list(source.find(splits, subjects))
    for recording in known:
        _check_type(recording, Recording, f"{source.spec} returns as a recording")
        if recording.split not in SPLITS:
            raise InputError(
                f"{source.spec} has a recording of the split {recording.split!r}: give {', '.join(SPLITS)}"
            )
        for text in (recording.subject, recording.name):
            if not _is_name(text):
                raise InputError(f"{source.spec} names a recording {text!r}: names are texts that can be printed")
        with _answering(source.spec, f"sending {recording.path} to another process"):
            pickle.dumps(recording)
    found = [one for one in known if one.split in splits and (not subjects or one.subject in subjects)]
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
    """Yield what can be seen of each frame, see `Source.survey`. Raises InputError if one is there twice."""
    numbers = set()
    with _answering(source.spec, f"listing the frames of {recording.path}"):
        for frame in source.survey(recording, components):
            number = operator.index(frame.number)
            if number in numbers:
                raise InputError(f"{source.spec} lists frame {number} of {recording.path} twice")
            numbers.add(number)
            yield replace(frame, number=number)


def read_labels(source: Source, recording: Recording, frame: int) -> FrameLabels:
    """Return a frame's labels, with positions in the image. Raises FrameError if they are of no use."""
    place = _place(source, recording, frame)
    with _answering(*place, may_skip=True):
        labels = source.labels(recording, frame)
    where = f"{place[0]} returns for {place[1]}"
    _check_type(labels, FrameLabels, f"{where} as labels")
    _check_type(labels.action, str, f"{where} as action")
    if printable(labels.action) != labels.action:
        raise FrameError("action is no text that can be printed")
    joints_3d = _positions(labels.joints_3d, "joints_3d", (len(source.skeleton), 3), where)
    if labels.joints_2d is None:
        joints_2d = source.camera.project(joints_3d)
    else:
        joints_2d = _positions(labels.joints_2d, "joints_2d", (len(source.skeleton), 2), where)
    return FrameLabels(joints_3d, joints_2d, labels.action, bool(labels.generated))


def read_image(source: Source, recording: Recording, frame: int) -> bytes | Image:
    """Return a frame's image, see `Source.image`. Raises FrameError if there is none."""
    place = _place(source, recording, frame)
    with _answering(*place, may_skip=True):
        image = source.image(recording, frame)
    where = f"{place[0]} returns for {place[1]} as image"
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"{where} {image.dtype} {image.shape}: give uint8 (H, W, 3), RGB, or a file's bytes")
        return np.ascontiguousarray(image)
    _check_type(image, bytes, where)
    return image


def read_component(source: Source, recording: Recording, frame: int, name: str) -> bytes:
    """Return another component of a frame. Raises FrameError if there is none."""
    place = _place(source, recording, frame)
    with _answering(*place, may_skip=True):
        content = source.component(recording, frame, name)
    _check_type(content, bytes, f"{place[0]} returns for {place[1]} as {name}")
    return content


def _check_description(source: Source) -> None:
    """Raise AttributeError, TypeError or ValueError for what no manifest can say, or not so that it is read back."""
    if any(isinstance(actions, str) for actions in source.action_groups.values()):
        raise ValueError("a group of actions is a text: give a tuple of names")
    groups = {group: tuple(actions) for group, actions in source.action_groups.items()}
    described = Description(source.name, source.camera, source.skeleton, groups)
    if from_plain(Description, json.loads(json.dumps(asdict(described)))) != described:
        raise ValueError("its camera or its skeleton is of a class of its own, or holds a list where a tuple belongs")
    if not _is_name(source.name):
        raise ValueError(f"its name is {source.name!r}, no text that can be printed")
    known = ("rgba", *COMPONENT_MEMBERS)
    if isinstance(source.components, str) or not set(source.components) <= set(known):
        raise ValueError(f"its components are {source.components!r}: give a tuple of some of {', '.join(known)}")


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and text != "" and printable(text) == text


def _place(source: Source, recording: Recording, frame: int) -> tuple[str, str]:
    return source.spec, f"{recording.path}, frame {frame}"


def _positions(values: Any, name: str, shape: tuple[int, int], where: str) -> NDArray[np.float64]:
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where} {name} that are no table of numbers") from None
    if points.shape != shape:
        raise InputError(f"{where} {name} of shape {points.shape}; its skeleton wants {shape}")
    if not np.isfinite(points).all():
        raise FrameError(f"{name} lacks values")
    if np.abs(points).max() > LARGEST:
        raise FrameError(f"{name} holds values beyond 32 bits")
    return points


@contextlib.contextmanager
def _answering(spec: str, what: str, *, may_skip: bool = False) -> Iterator[None]:
    """Say in one line what a user's class was doing when it raised something that it should not.

    A FrameError it may raise if it is asked for a frame, which ``may_skip`` says.
    """
    try:
        yield
    except (InputError, Failure):
        raise
    except Exception as error:
        # what a disk does is said as that of any command; a file that is not there is the class's mistake
        is_disks = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        if is_disks or (may_skip and isinstance(error, FrameError)):
            raise
        raise InputError(f"{spec}, {what}: {type(error).__name__}: {error}") from error


def _check_type(value: Any, expected: type, what: str) -> None:
    if not isinstance(value, expected):
        raise InputError(f"{what} a {type(value).__name__}, not a {expected.__name__}")
