"""One split of a shard set on disk: its index, and any sample's bytes out of memory-mapped tars."""

from __future__ import annotations

import concurrent.futures
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Bytes
from loaders.errors import InputError
from loaders.format.index import IndexEntry, ShardIndex, compare_headers, index_name, read_index
from loaders.format.manifest import Manifest, Shard
from loaders.format.sample import (
    COMPONENT_MEMBERS,
    META,
    POSE,
    Layout,
    array_layouts,
    encoded_size,
)
from loaders.system.open_files import map_file
from models.camera import Camera

if TYPE_CHECKING:
    from loaders.system.memory import Addresses

Indices = Sequence[int] | NDArray[np.int64]


class ShardSet:
    """The samples 0..n-1 of one split, in the order of its shards.

    Opening compares every shard's size and count with the manifest and its index, so what is missing, cut or foreign is
    found before the first step. No file stays open; mappings are made when a shard is first read.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        checksums: bool = False,
        remote: str | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        """Open a split.

        Args:
            root: folder of the shard set.
            split: "train", "val" or "test".
            checksums: read every shard: compare its sha256 with the manifest, and all its headers with the index.
            remote: where the tars are, if ``root`` holds manifest and indices alone; no bytes can be read then.
            manifest: of a set whose manifest is not written yet; None reads it.

        Raises:
            InputError: the manifest, a shard or an index is missing, unreadable or does not agree with the others.
        """
        self.manifest = manifest or Manifest.read(root)
        if split not in self.manifest.splits:
            raise InputError(f"{root} has no split {split!r}; it has {', '.join(self.manifest.splits) or 'none'}")
        self.folder = root / split
        self.shards = self.manifest.splits[split].shards
        self.camera = self.manifest.camera
        """The camera of the stored images."""
        self.window = self.manifest.preprocessing.window
        """Left, top and side of the square that a network sees, in pixels of the stored images."""
        self.layouts = array_layouts(len(self.manifest.skeleton))
        """Of the members that are labels."""
        self.fingerprint = self.manifest.fingerprint(split)
        self.remote = remote
        self._maps: dict[int, Bytes] = {}
        self._begins = np.zeros(len(self.shards), np.int64)
        """Where the mappings begin in memory; 0 of those that are not made yet."""
        try:
            indices = [self._open(number, checksums) for number in range(len(self.shards))]
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be read ({error.strerror}): check its permissions and its disk"
            ) from None
        members = {index.members for index in indices}
        if len(members) > 1:
            raise InputError(f"{self.folder}: shards hold different members {sorted(members)}: run tools.shard again")
        self.members: tuple[str, ...] = members.pop() if members else ()
        self._spans = np.concatenate([index.spans for index in indices]) if indices else np.empty((0, 0, 2), np.int64)
        self.keys = np.concatenate([index.keys for index in indices]) if indices else np.empty(0, np.bytes_)
        """The samples' webdataset keys (n,)."""
        self._first = np.cumsum([0] + [shard.samples for shard in self.shards])
        self._check_sizes()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._spans)

    def seen_camera(self, size: int) -> Camera:
        """Return the camera of what a network sees of the stored images, resized to ``size`` x ``size`` pixels."""
        return self.camera.crop_and_resize(*self.window, size)

    def read(self, indices: Indices, name: str) -> list[Bytes]:
        """Return the bytes of a member of each sample, as read-only views into the mapped tars."""
        chosen = np.asarray(indices, np.int64)
        shards = self.shard_of(chosen).tolist()
        spans = self._spans[chosen, self.members.index(name)].tolist()
        return [self._map(shard)[offset : offset + size] for shard, (offset, size) in zip(shards, spans, strict=True)]

    def read_ahead(self, indices: Indices, names: Sequence[str]) -> None:
        """Have members of samples read from the disk, and return when what Python looks at is in memory.

        That is the first page of each: a whole label, or an image's header.
        """
        from loaders.system.memory import read_ahead  # noqa: PLC0415 - slow to import

        read_ahead(self._parts(indices, names).reshape(-1, 2))

    def tails(self, indices: Indices, name: str, size: int) -> Addresses:
        """Return where the last ``size`` bytes of a member of each sample are in memory, until the set is closed.

        They are the values of an array, which is stored as .npy.
        """
        parts = self._parts(indices, [name])[:, 0]
        return parts[:, 0] + parts[:, 1] - size

    def member(self, index: int, name: str) -> Bytes:
        """Return the bytes of one sample's member as a read-only view into the mapped tar."""
        return self.read([index], name)[0]

    def pose(self, indices: Indices) -> NDArray[np.float32]:
        """Return (n, J, 5): u, v in pixels of the stored image, x, y, z in metres, camera frame."""
        return self._arrays(indices, POSE)

    def meta(self, indices: Indices) -> NDArray[np.int32]:
        """Return (n, 4): subject, environment, frame, action."""
        return self._arrays(indices, META)

    def labels(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return pose (n, J, 5) and meta (n, 4) of the whole split, without touching images."""
        blocks = np.array_split(np.arange(len(self)), max(1, len(self) // 1024))
        # each label costs the disk a read of its own: many threads keep its queue full
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            poses, metas = list(pool.map(self.pose, blocks)), list(pool.map(self.meta, blocks))
        return np.concatenate(poses), np.concatenate(metas)

    def key(self, index: int) -> str:
        """Return the sample's webdataset key."""
        return str(self.keys[index].decode())

    def shard_of(self, indices: Indices) -> NDArray[np.int64]:
        """Return the number (n,) of the shard that holds each sample."""
        return np.searchsorted(self._first, np.asarray(indices, np.int64), "right") - 1

    def span(self, index: int, name: str) -> tuple[int, int]:
        """Return a member's offset in its tar and its size (bytes)."""
        offset, size = self._spans[index, self.members.index(name)].tolist()
        return offset, size

    def entries(self, indices: Indices, names: Sequence[str]) -> list[list[IndexEntry]]:
        """Return lines of an index that lists some members of some samples; see `write_index`."""
        spans = self._spans[np.asarray(indices)][:, [self.members.index(name) for name in names]].tolist()
        keys = [key.decode() for key in self.keys[indices].tolist()]
        return [
            [(name, offset, size, f"{key}.{name}") for name, (offset, size) in zip(names, sample, strict=True)]
            for key, sample in zip(keys, spans, strict=True)
        ]

    def location(self, shard: int) -> str:
        """Return the path or URL of a shard."""
        name = self.shards[shard].name
        return f"{self.remote.rstrip('/')}/{self.folder.name}/{name}" if self.remote else str(self.folder / name)

    def describe(self, index: int, name: str) -> str:
        """Say where a member lies, for messages: shard, key, member, offset."""
        shard = self.location(int(self.shard_of([index])[0]))
        return f"{shard}: {self.key(index)}.{name} at byte {self.span(index, name)[0]}"

    def close(self) -> None:
        """Drop the mappings; views handed out keep theirs alive."""
        self._maps.clear()
        self._begins[:] = 0

    def _parts(self, indices: Indices, names: Sequence[str]) -> NDArray[np.int64]:
        """Return where members of samples are in memory: (n, members, 2), address and size (bytes)."""
        chosen = np.asarray(indices, np.int64)
        shards = self.shard_of(chosen)
        for shard in np.unique(shards[self._begins[shards] == 0]).tolist():
            self._begins[shard] = self._map(shard).ctypes.data
        parts = self._spans[chosen[:, None], [self.members.index(name) for name in names]]
        parts[:, :, 0] += self._begins[shards][:, None]
        return parts

    def _arrays(self, indices: Indices, name: str) -> NDArray[Any]:
        """Return a copy (n, *shape) of the arrays of some samples."""
        from loaders.system.memory import gather  # noqa: PLC0415 - slow to import

        layout = self.layouts[name]
        rows = np.empty((len(indices), layout.bytes), np.uint8)
        gather(self.tails(indices, name, layout.bytes), rows)
        return rows.view(layout.dtype).reshape(-1, *layout.shape)

    def _open(self, number: int, checksums: bool) -> ShardIndex:
        """Check one shard and return its index."""
        shard = self.shards[number]
        if not self.remote:
            check_shard(self.folder, shard, checksum=checksums)
        index = read_index(self.folder / index_name(shard.name), shard)
        if not self.remote and shard.samples:
            # an index that fills the tar exactly and fits at both ends fits between them, but for samples of equal size
            looked_at = range(shard.samples) if checksums else {0, shard.samples - 1}
            compare_headers(self.folder / shard.name, self._map(number), index, looked_at)
            self._maps.clear()
        return index

    def _check_sizes(self) -> None:
        """Check the members whose size is known, so that reading them cannot go wrong."""
        if not len(self):
            return
        image = self.manifest.image_member
        layouts = {name: layout for name, layout in self.layouts.items() if name in self.manifest.members}
        if image and self.manifest.preprocessing.format == "raw":
            layouts[image] = Layout("|u1", (self.camera.height, self.camera.width, 3))
        sizes = {name: encoded_size(layout) for name, layout in layouts.items()}
        for name, size in sizes.items():
            if name not in self.members:
                raise InputError(f"{self.folder}: samples hold no {name}: run tools.shard again")
            wrong = np.flatnonzero(self._spans[:, self.members.index(name), 1] != size)
            if len(wrong):
                first = int(wrong[0])
                raise InputError(
                    f"{self.describe(first, name)} has {self.span(first, name)[1]} bytes, not {size}: "
                    "run tools.shard again"
                )

    def _map(self, shard: int) -> Bytes:
        if shard not in self._maps:
            if self.remote:
                raise InputError(
                    f"{self.location(shard)} is not on this machine, and this needs its bytes: copy the tars beside "
                    "their indices and leave out data.remote"
                )
            # where two threads map the same file, the first mapping stays: addresses of it may be in use
            return self._maps.setdefault(shard, map_file(self.folder / self.shards[shard].name))
        return self._maps[shard]


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
        digest = hashlib.sha256(map_file(path).data).hexdigest()
        if digest != shard.sha256:
            raise InputError(f"{path} was altered: its sha256 is not the manifest's: {remedy}")


def output_members(shard_set: ShardSet, outputs: Sequence[str]) -> dict[str, str]:
    """Return the tar member behind each output of `build_loader`. Raises InputError if the set lacks it."""
    members = {}
    for output in outputs:
        component = {"image": "rgba", "object_id": "objectId"}.get(output, output)
        member = COMPONENT_MEMBERS.get(component, shard_set.manifest.image_member)
        if member is None or member not in shard_set.members:
            raise InputError(f"{shard_set.folder} holds no {component}: run tools.shard with --components {component}")
        members[output] = member
    return members


def image_data(shard_set: ShardSet, indices: Indices, member: str) -> list[Bytes]:
    """Return views of the encoded bytes (n,), or of the images (H, W, 3) themselves where they are stored raw."""
    found = shard_set.read(indices, member)
    if not member.endswith(".npy"):
        return found
    height, width = shard_set.camera.height, shard_set.camera.width
    return [data[-height * width * 3 :].reshape(height, width, 3) for data in found]
