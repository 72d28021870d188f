"""The protocol: what the tools ask of a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Image
from models.camera import Camera
from models.skeleton import ActionGroups, Skeleton

if TYPE_CHECKING:
    from tools.parallel import Progress
    from tools.sources.inspection import Inspection

SPLITS: Final = ("train", "val", "test")
NO_ACTION: Final = "none"
"""Action of a frame of which none is known."""


class FrameError(ValueError):
    """A frame cannot become a sample; the message is the reason."""


@dataclass(frozen=True)
class Recording:
    """One recording: a subject in one environment."""

    split: str
    """"train", "val" or "test"."""
    subject: str
    """Who it is of. Names can be printed."""
    name: str
    """Which of the subject's recordings it is."""
    path: Path
    """Where it lies: for messages, and for its source. A derived class may say more, of what can be pickled."""


@dataclass(frozen=True)
class FrameLabels:
    """The labels of one frame, of the source's J joints."""

    joints_3d: NDArray[np.floating[Any]]
    """(J, 3), metres, camera frame: x to the right of the image, y down, z along the optical axis."""
    joints_2d: NDArray[np.floating[Any]] | None = None
    """(J, 2), pixels of the frame, centers at integers; None lets the camera project ``joints_3d``."""
    action: str = NO_ACTION
    """What the subject does, as `Source.action_groups` lists it."""
    generated: bool = False
    """Whether ``tools.synthesize`` made the frame."""


@dataclass(frozen=True)
class SurveyedFrame:
    """What names and files show of a frame, before anything is read."""

    number: int
    defect: str = ""
    """Why it cannot become a sample; empty if nothing is seen."""
    note: str = ""
    """What is unusual about it but does no harm."""


class Source(ABC):
    """A dataset. Derive a class and give it as ``--source package.module:Class`` or ``--source path/to/file.py:Class``.

    It needs ``name``, ``camera`` and ``skeleton``, as attributes of the class or set by its constructor, and the four
    abstract methods. Each process opens it once, with the folder or file that ``--dataset`` names; it goes to other
    processes as that name, so that it may hold open files.

    `labels`, `image` and `component` raise `FrameError` with the reason for a frame that cannot become a sample: it is
    skipped and listed. Any other exception ends the work.
    """

    name: str
    """Of the dataset, as the manifest has it."""
    camera: Camera
    """The camera of its frames."""
    skeleton: Skeleton
    """What its joints are."""
    action_groups: ActionGroups = MappingProxyType({})
    """Groups of actions, over which metrics are averaged as well, in the order of tables."""
    components: Sequence[str] = ("rgba",)
    """What frames have beside labels, among "rgba", "json", "worldp", "depth", "objectId" and "rot"."""
    subjects: Mapping[str, Sequence[str]] = MappingProxyType({})
    """By split, who should be there; ``tools.validate`` says who is not."""
    spec: str = ""
    """How ``--source`` names the class."""

    def __init__(self, root: Path) -> None:
        """Open the dataset at ``root``; raise InputError, or anything else, if that is none."""
        self.root = root

    @abstractmethod
    def recordings(self) -> Iterable[Recording]:
        """Return all recordings, in any order."""

    @abstractmethod
    def frames(self, recording: Recording) -> Iterable[int]:
        """Return the numbers of a recording's frames."""

    @abstractmethod
    def labels(self, recording: Recording, frame: int) -> FrameLabels:
        """Return a frame's labels."""

    @abstractmethod
    def image(self, recording: Recording, frame: int) -> bytes | Image:
        """Return a frame's image: the bytes of a PNG, JPEG or other file, or pixels (H, W, 3), uint8, RGB."""

    def component(self, recording: Recording, frame: int, name: str) -> bytes:
        """Return another component of a frame: bytes of a PNG, or of JSON for "json" and "rot"."""
        raise FrameError(f"no {name}")

    def find(self, splits: Sequence[str], subjects: Sequence[str]) -> Iterable[Recording]:
        """Return at least the recordings of some splits and, unless that is empty, subjects."""
        del splits, subjects
        return self.recordings()

    def survey(self, recording: Recording, components: Sequence[str]) -> Iterator[SurveyedFrame]:
        """Yield what can be seen of each frame without reading it, given what a sample is to hold."""
        del components
        return map(SurveyedFrame, sorted(self.frames(recording)))

    def components_of(self, recordings: Sequence[Recording]) -> Sequence[str]:
        """Return the components that every frame of these recordings should have."""
        del recordings
        return self.components

    def inspect(self, recording: Recording, progress: Progress, *, components: Sequence[str], deep: bool) -> Inspection:
        """Inspect all frames of a recording, for ``tools.validate``; ``deep`` decodes every image."""
        from tools.sources.inspection import inspect_recording  # noqa: PLC0415 - which needs this module

        return inspect_recording(self, recording, progress, components=components, deep=deep)

    @final
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it takes to open it anew: a class out of a user's file is not known to another process."""
        from tools.sources.opening import open_source  # noqa: PLC0415 - which needs this module

        return open_source, (self.spec or f"{type(self).__module__}:{type(self).__qualname__}", self.root)
