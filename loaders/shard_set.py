"""One split of a shard set on disk: its index, and any sample's bytes out of memory-mapped tars."""

from __future__ import annotations

import concurrent.futures
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.manifest import Manifest, Shard
from loaders.sample import META, META_SHAPE, POSE, POSE_SHAPE, sample_key

INDEX_VERSION: Final = "v1.2"

Bytes = NDArray[np.uint8]
Indices = Sequence[int] | NDArray[np.int64]


class ShardSet:
    """The samples 0..n-1 of one split, in the order of its shards.

    Opening compares every shard's size and every index's sample count with the manifest, so a missing or shortened
    shard is found before the first step. No file stays open; mappings are made when a shard is first read.
    """

    def __init__(self, root: Path, split: str, *, checksums: bool = False) -> None:
        """Open a split.

        Args:
            root: folder of the shard set.
            split: "train", "val" or "test".
            checksums: read every shard and compare its sha256 as well.

        Raises:
            InputError: the manifest, a shard or an index is missing or does not agree with the manifest.
        """
        self.manifest = Manifest.read(root)
        if split not in self.manifest.splits:
            raise InputError(f"{root} has no split {split!r}; it has {', '.join(self.manifest.splits) or 'none'}")
        self.folder = root / split
        self.shards = self.manifest.splits[split].shards
        self.camera = self.manifest.camera
        self.fingerprint = self.manifest.fingerprint(split)
        for shard in self.shards:
            check_shard(self.folder, shard, checksum=checksums)
        indices = [read_index(self.folder / index_name(shard.name), shard) for shard in self.shards]
        members = {tuple(names) for names, _ in indices}
        if len(members) > 1:
            raise InputError(f"{self.folder}: shards hold different members {sorted(members)}: run tools.shard again")
        self.members: tuple[str, ...] = members.pop() if members else ()
        self._places = np.concatenate([places for _, places in indices]) if indices else np.empty((0, 0, 2), np.int64)
        self._first = np.cumsum([0] + [shard.samples for shard in self.shards])
        self._maps: dict[int, Bytes] = {}

    def __len__(self) -> int:
        return len(self._places)

    def read(self, indices: Indices, name: str) -> list[Bytes]:
        """Return the bytes of a member of each sample, as read-only views into the mapped tars."""
        chosen = np.asarray(indices, np.int64)
        shards = (np.searchsorted(self._first, chosen, "right") - 1).tolist()
        places = self._places[chosen, self.members.index(name)].tolist()
        return [self._map(shard)[offset : offset + size] for shard, (offset, size) in zip(shards, places, strict=True)]

    def member(self, index: int, name: str) -> Bytes:
        """Return the bytes of one sample's member as a read-only view into the mapped tar."""
        return self.read([index], name)[0]

    def array(self, indices: Indices, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a copy (n, *shape) of the .npy members ``name`` of n samples."""
        tail = np.dtype(dtype).itemsize * math.prod(shape)
        tails = [data[-tail:] for data in self.read(indices, name)]
        joined = np.concatenate(tails) if tails else np.empty(0, np.uint8)
        return joined.view(dtype).reshape(-1, *shape)

    def pose(self, indices: Indices) -> NDArray[np.float32]:
        """Return (n, 16, 5): u, v in pixels of the stored picture, x, y, z in metres, camera frame."""
        return self.array(indices, POSE, "<f4", POSE_SHAPE)

    def meta(self, indices: Indices) -> NDArray[np.int32]:
        """Return (n, 4): subject, environment, frame, action."""
        return self.array(indices, META, "<i4", META_SHAPE)

    def labels(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return pose (n, 16, 5) and meta (n, 4) of the whole split, without touching pictures."""
        blocks = np.array_split(np.arange(len(self)), max(1, len(self) // 1024))
        # each label is a page of its own: many readers keep a disk's queue full
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            poses, metas = list(pool.map(self.pose, blocks)), list(pool.map(self.meta, blocks))
        return np.concatenate(poses), np.concatenate(metas)

    def key(self, index: int) -> str:
        """Return the sample's webdataset key."""
        subject, environment, frame, _ = self.meta([index])[0]
        return sample_key(self.manifest.subjects[subject], self.manifest.environments[environment], int(frame))

    def describe(self, index: int, name: str) -> str:
        """Say where a member lies, for messages: shard, member, offset."""
        shard = self.shards[int(np.searchsorted(self._first, index, "right")) - 1]
        offset = int(self._places[index, self.members.index(name), 0])
        return f"{self.folder / shard.name}: {self.key(index)}.{name} at byte {offset}"

    def close(self) -> None:
        """Drop the mappings; views handed out keep theirs alive."""
        self._maps.clear()

    def _map(self, shard: int) -> Bytes:
        mapped = self._maps.get(shard)
        if mapped is None:
            mapped = np.memmap(self.folder / self.shards[shard].name, np.uint8, "r").view(np.ndarray)
            self._maps[shard] = mapped
        return mapped


def index_name(shard_name: str) -> str:
    """Return the name of a shard's index file."""
    return str(Path(shard_name).with_suffix(".idx"))


def check_shard(folder: Path, shard: Shard, *, checksum: bool) -> None:
    """Compare a shard on disk with the manifest. Raises InputError that names it."""
    path = folder / shard.name
    remedy = "copy it again or run tools.shard again"
    if not path.is_file():
        raise InputError(f"{path} is missing: {remedy}")
    size = path.stat().st_size
    if size != shard.bytes:
        raise InputError(f"{path} has {size} bytes, the manifest says {shard.bytes}: {remedy}")
    if checksum:
        digest = hashlib.sha256(np.memmap(path, np.uint8, "r").data).hexdigest()
        if digest != shard.sha256:
            raise InputError(f"{path} was altered: its sha256 is not the manifest's: {remedy}")


def write_index(path: Path, samples: Sequence[Sequence[tuple[str, int, int, str]]]) -> None:
    """Write DALI's wds2idx v1.2 text: per sample its members as (extension, offset, bytes, file name)."""
    lines = [" ".join(f"{e} {offset} {size} {name}" for e, offset, size, name in members) for members in samples]
    path.write_text("\n".join([f"{INDEX_VERSION} {len(samples)}", *lines]) + "\n", encoding="ascii")


def read_index(path: Path, shard: Shard) -> tuple[list[str], NDArray[np.int64]]:
    """Read an index: member names, and their places (samples, members, 2) as (offset, bytes).

    Raises InputError if it is missing, malformed, or does not fit the shard.
    """
    remedy = "run tools.shard again, or DALI's wds2idx for this shard"
    if not path.is_file():
        raise InputError(f"{path} is missing: {remedy}")
    head, _, body = path.read_text(encoding="ascii", errors="replace").partition("\n")
    if head.split() != [INDEX_VERSION, str(shard.samples)]:
        raise InputError(f"{path} begins {head!r}, expected '{INDEX_VERSION} {shard.samples}': {remedy}")
    words = np.array(body.split())
    try:
        fields = words.reshape(shard.samples, -1, 4)
        places = fields[:, :, 1:3].astype(np.int64)
    except ValueError:
        raise InputError(f"{path} is malformed: {remedy}") from None
    names = fields[0, :, 0].tolist() if shard.samples else []
    if (fields[:, :, 0] != names).any():
        raise InputError(f"{path}: samples with different members: {remedy}")
    if (places < 0).any() or (places.sum(axis=2) > shard.bytes).any():
        raise InputError(f"{path} points outside {shard.name}: {remedy}")
    return names, places
