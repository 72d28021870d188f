"""What several of the other ways share."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loaders import ShardSet
from loaders.format.sample import META, POSE

SHUFFLE_BUFFER: Final = 256
"""Samples that a reader of shards mixes (samples)."""
DECODER: Final = "torchcodec" if importlib.util.find_spec("torchcodec") else "torchvision"
"""Whose JPEG decoder the peers take that have none of their own: both wrap libjpeg-turbo, and are exact and equally
fast; torchvision's is deprecated."""
_COPIED: Final = 4096
"""Most samples that a peer's own format gets (samples)."""

T = TypeVar("T")
Dtype = Literal["uint8", "float32"]
Sample = tuple[Tensor, bytes, bytes]
"""Image, (H, W, 3) uint8 or (3, H, W) float32, and its labels: pose and meta as they are stored."""
Batch = tuple[Tensor, Any, Any]
"""Images of B samples, (B, 3, H, W) or (B, H, W, 3), and their labels: pose and meta as they are stored."""


@dataclass(frozen=True)
class Batches:
    """A way at work."""

    stream: Iterator[Batch]
    """Never ends; one epoch follows the other."""
    at_once: int = 1
    """Batches that its workers finish at nearly the same time (batches). A step takes so many: one that ended between
    two such bursts would count too many or too few."""


def endless(epochs: Iterable[T]) -> Generator[T, None, None]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from epochs


@contextlib.contextmanager
def from_workers(epochs: Iterable[Batch], workers: int) -> Iterator[Batches]:
    """Give the batches of a loader with worker processes; they end with the loader, which nothing else may hold."""
    with contextlib.closing(endless(epochs)) as stream:
        yield Batches(stream, max(1, workers))


@contextlib.contextmanager
def torch_threads(threads: int | None = None) -> Iterator[None]:
    """Set the threads of torch's own operations, None leaves them; in the end they are again what they were."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def import_ffcv_reader() -> ModuleType:
    """Import the module that needs FFCV, which sets torch's threads for the whole process when it is imported."""
    with torch_threads():
        from benchmarks.peers import ffcv_reader  # noqa: PLC0415 - absent on some machines

    return ffcv_reader


def decode_jpeg(encoded: bytes | NDArray[np.uint8], dtype: Dtype) -> Tensor:
    """Decode the bytes of a JPEG to uint8 (H, W, 3), or to float32 (3, H, W) in [-1, 1]; both are contiguous."""
    # a copy: torch warns of memory that may not be written
    image = _decoder()(torch.from_numpy(np.array(np.frombuffer(encoded, np.uint8))))
    return normalize(image) if dtype == "float32" else image.permute(1, 2, 0)


def normalize(images: Tensor) -> Tensor:
    """Return bytes as contiguous float32 in [-1, 1]; transposed, if need be, in the first pass over the floats."""
    return torch.empty(images.shape).copy_(images).div_(127.5).sub_(1)


@functools.cache
def _decoder() -> Callable[[Tensor], Tensor]:
    """Return a function of the bytes (n,) of a JPEG to (3, H, W), whose memory is (H, W, 3)."""
    if DECODER == "torchcodec":
        from torchcodec.decoders import decode_jpeg as decode  # noqa: PLC0415 - absent on some machines

        return functools.partial(decode, mode="RGB")
    from torchvision.io import ImageReadMode, decode_image  # noqa: PLC0415 - slow to import

    return functools.partial(decode_image, mode=ImageReadMode.RGB)


def collate(samples: Iterable[Sample]) -> Batch:
    """Return samples as a batch."""
    images, poses, metas = zip(*samples, strict=True)
    return torch.stack(images), poses, metas


def stored_samples(root: Path) -> Iterator[dict[str, bytes]]:
    """Yield the first training samples of a shard set, for a peer's own format: "image" as a JPEG, "pose", "meta"."""
    shard_set = ShardSet(root, "train")
    members = {"image": shard_set.manifest.image_member or "", "pose": POSE, "meta": META}
    for index in range(min(_COPIED, len(shard_set))):
        yield {field: shard_set.member(index, name).tobytes() for field, name in members.items()}


def decode_stored_sample(sample: Mapping[str, bytes], dtype: Dtype) -> Sample:
    """Decode a sample as `stored_samples` yields it."""
    return decode_jpeg(sample["image"], dtype), sample["pose"], sample["meta"]


class EncodedSamples:
    """The training samples of a shard set by number, decoded."""

    def __init__(self, root: Path, *, dtype: Dtype) -> None:
        self._shard_set = ShardSet(root, "train")
        self._member = self._shard_set.manifest.image_member or ""
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._shard_set)

    def __getitem__(self, index: int) -> Sample:
        pose, meta = (self._shard_set.member(index, name).tobytes() for name in (POSE, META))
        return decode_jpeg(self._shard_set.member(index, self._member), self._dtype), pose, meta
