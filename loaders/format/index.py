"""A shard's index: where each member of each sample lies in the tar (DALI's wds2idx v1.2 text)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Bytes
from loaders.errors import InputError
from loaders.format.manifest import Shard

_VERSION: Final = "v1.2"
_REMEDY: Final = "run tools.shard again, or DALI's wds2idx for this shard"

IndexEntry = tuple[str, int, int, str]
"""A member in a tar: extension, offset and size of its data (bytes), file name."""


@dataclass(frozen=True)
class ShardIndex:
    """Where the members of a shard's samples lie in the tar."""

    keys: NDArray[np.bytes_]
    """(n,) keys of the samples."""
    members: tuple[str, ...]
    """Names of a sample's members, in order."""
    spans: NDArray[np.int64]
    """(n, members, 2): offset in the tar and size (bytes)."""


def index_name(shard_name: str) -> str:
    """Return the name of a shard's index file."""
    return str(Path(shard_name).with_suffix(".idx"))


def write_index(path: Path, samples: Sequence[Sequence[IndexEntry]]) -> None:
    """Write the index of a tar, given the members of its samples."""
    lines = [" ".join(f"{e} {offset} {size} {name}" for e, offset, size, name in members) for members in samples]
    path.write_text("\n".join([f"{_VERSION} {len(samples)}", *lines]) + "\n", encoding="ascii")


def read_index(path: Path, shard: Shard) -> ShardIndex:
    """Read the index of ``shard``.

    Raises:
        InputError: it is missing, malformed, or does not fit the shard's size.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: {_REMEDY}")
    head, _, body = path.read_text(encoding="ascii", errors="replace").partition("\n")
    if head.split() != [_VERSION, str(shard.samples)]:
        raise InputError(f"{path} begins {head!r}, expected '{_VERSION} {shard.samples}': {_REMEDY}")
    words = np.array(body.split())
    try:
        fields = words.reshape(shard.samples, -1, 4)
        spans = fields[:, :, 1:3].astype(np.int64)
    except ValueError:
        raise InputError(f"{path} is malformed: {_REMEDY}") from None
    names = fields[0, :, 0].tolist() if shard.samples else []
    if (fields[:, :, 0] != names).any():
        raise InputError(f"{path}: samples with different members: {_REMEDY}")
    keys = np.array([name.partition(".")[0] for name in fields[:, 0, 3]] if names else [], np.bytes_)
    if (spans[..., 1] < 0).any() or not _adjoining(spans.reshape(-1, 2), shard.bytes):
        raise InputError(f"{path} points elsewhere than the members of {shard.name} can lie: {_REMEDY}")
    return ShardIndex(keys, tuple(names), spans)


def compare_headers(path: Path, data: Bytes, index: ShardIndex, samples: Iterable[int]) -> None:
    """Compare the index with the tar's own headers of some samples.

    Args:
        path: of the tar, for the message.
        data: the tar.
        index: its index.
        samples: rows of the index.

    Raises:
        InputError: a member in the tar has another name, offset or size than the index says.
    """
    for row in samples:
        for member, (offset, size) in zip(index.members, index.spans[row].tolist(), strict=True):
            listed = f"{index.keys[row].decode()}.{member}", size
            try:
                header = tarfile.TarInfo.frombuf(
                    data[offset - tarfile.BLOCKSIZE : offset].tobytes(), "ascii", "replace"
                )
                found = f"{header.name} of {header.size} bytes"
                agrees = (header.name, header.size) == listed
            except tarfile.HeaderError:
                found, agrees = "no member", False
            if not agrees:
                raise InputError(
                    f"{path}: its index disagrees with its headers: {found} at byte {offset} in the tar, "
                    f"{listed[0]} of {size} bytes in the index: {_REMEDY}"
                )


def _adjoining(spans: NDArray[np.int64], size: int) -> bool:
    """Whether members (n, 2) fill a tar of ``size`` bytes without a gap: each begins a header after the one before."""
    block = tarfile.BLOCKSIZE
    ends = spans[:, 0] + -(-spans[:, 1] // block) * block
    begins = np.concatenate([[0], ends[:-1]]) + block
    end = int(ends[-1]) if len(ends) else 0
    # two blocks of zeros end a tar, which is then filled up to a whole record
    return bool((spans[:, 0] == begins).all()) and end + 2 * block <= size <= end + 2 * block + tarfile.RECORDSIZE
