"""``manifest.json``: what a shard set holds and how it was made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loaders.errors import InputError
from loaders.format.sample import IMAGE_MEMBERS, VISIBLE, sample_members
from loaders.plain import from_plain
from loaders.preprocessing import Preprocessing, upgraded
from models.camera import FisheyeCamera
from models.skeleton import BONES, JOINTS

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
    camera: FisheyeCamera
    """The camera of the stored images."""
    subjects: tuple[str, ...]
    environments: tuple[str, ...]
    actions: tuple[str, ...]
    splits: dict[str, Split]
    generated: bool = False
    """Whether any frame was made by ``tools.synthesize``."""
    version: int = VERSION
    """Of the format."""

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
            "skeleton": {"joints": JOINTS, "bones": BONES},
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
            if tuple(content["skeleton"]["joints"]) != JOINTS:
                raise InputError(f"{path} lists other joints than models/skeleton.py: run tools.shard again")
            if content["version"] == _OLDER:
                content = {"generated": False, **content, "preprocessing": upgraded(content["preprocessing"])}
            return from_plain(cls, {field.name: content[field.name] for field in dataclasses.fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}): run tools.shard again") from None
