"""``manifest.json``: what a shard set holds and how it was made."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loaders.errors import InputError
from loaders.format.sample import IMAGE_MEMBERS, VISIBLE, sample_members
from loaders.plain import from_plain, restored_camera
from loaders.preprocessing import Preprocessing, upgraded
from models import xr_egopose
from models.camera import Camera
from models.skeleton import Skeleton, action_group

FILE_NAME: Final = "manifest.json"
FORMAT: Final = "egopose-shards"
VERSION: Final = 3
_OLDER: Final = 2
"""A version that is read as well: its samples have no ``visible.npy``."""


@dataclass(frozen=True)
class Shard:
    """One tar of a split."""

    name: str
    """File name, below the split's folder."""
    samples: int
    bytes: int
    """Size of the file (bytes)."""
    sha256: str


@dataclass(frozen=True)
class SkippedFrame:
    """A frame of the dataset that is in no shard."""

    subject: str
    environment: str
    frame: int
    reason: str


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order, and the frames that were skipped."""

    shards: tuple[Shard, ...]
    skipped: tuple[SkippedFrame, ...] = ()

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """A shard set's description. Index lists give ``meta.npy`` its meaning."""

    options: dict[str, Any]
    """The other options of ``tools.shard`` that determine the bytes; ``components`` among them."""
    preprocessing: Preprocessing
    """What was done to the stored images."""
    subjects: tuple[str, ...]
    environments: tuple[str, ...]
    actions: tuple[str, ...]
    splits: dict[str, Split]
    generated: bool = False
    """Whether any frame was made by ``tools.synthesize``."""
    dataset: str = xr_egopose.NAME
    """Name of the dataset."""
    skeleton: Skeleton = xr_egopose.SKELETON
    """What the joints of a pose are."""
    action_groups: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(xr_egopose.ACTION_GROUPS))
    """Groups of actions, over which metrics are averaged, in the order of tables."""
    version: int = VERSION
    """Of the format."""

    @property
    def camera(self) -> Camera:
        """The camera of the stored images."""
        return self.preprocessing.stored

    @functools.cached_property
    def groups(self) -> tuple[str | None, ...]:
        """The group of each action; None for one of no group."""
        return tuple(action_group(action, self.action_groups) for action in self.actions)

    @property
    def image_member(self) -> str | None:
        """Member name of the image, None in a set without images."""
        return IMAGE_MEMBERS[self.preprocessing.format] if "rgba" in self.options["components"] else None

    @property
    def members(self) -> list[str]:
        """Names of a sample's members, in their order."""
        members = sample_members(self.options["components"], self.image_member)
        return [name for name in members if name != VISIBLE or self.version != _OLDER]

    def fingerprint(self, split: str) -> str:
        """Return 16 hexadecimal digits that change with any byte of the split's shards."""
        text = "\n".join(shard.sha256 for shard in self.splits[split].shards)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Encode; the same manifest gives the same text."""
        content = {
            "format": FORMAT,
            "version": self.version,
            "camera": dataclasses.asdict(self.camera),
            **dataclasses.asdict(self),
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, root: Path) -> Manifest:
        """Read the manifest of the shard set at ``root``. Raises InputError if it is absent, foreign or damaged."""
        path = root / FILE_NAME
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{root} is no finished shard set: it has no {FILE_NAME}; make one with "
                f"`python -m tools.shard --dataset DATASET --output {root}`, which also resumes an unfinished one"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions and its disk") from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}): run tools.shard again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} does not describe a shard set of this project: run tools.shard")
        if content.get("version") not in (VERSION, _OLDER):
            raise InputError(
                f"{path} has format version {content.get('version')}, not {VERSION}: run tools.shard again"
            )
        try:
            if content["version"] == _OLDER:
                content = {**content, "preprocessing": upgraded(content["preprocessing"])}
            if content["skeleton"].keys() == {"joints", "bones"}:  # of before there were other skeletons
                if tuple(content["skeleton"]["joints"]) != xr_egopose.JOINTS:
                    raise InputError(f"{path} lists other joints than {xr_egopose.NAME} has: run tools.shard again")
                content = {**content, "skeleton": dataclasses.asdict(xr_egopose.SKELETON)}
            names = [each.name for each in dataclasses.fields(cls) if each.name in content]
            manifest = from_plain(cls, {name: content[name] for name in names})
            # the camera follows from the preprocessing, and is written for others
            if restored_camera(content["camera"], "its camera") != manifest.camera:
                raise ValueError("its camera is another than its preprocessing makes")
            return manifest
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}): run tools.shard again") from None
