"""What several of the other ways share."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor

SHUFFLE_BUFFER: Final = 256
"""Samples that a reader of shards mixes (samples)."""

T = TypeVar("T")
Dtype = Literal["uint8", "float32"]
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


def decode_jpeg(encoded: Tensor, dtype: Dtype) -> Tensor:
    """Decode (n,) bytes with torchvision to (3, H, W): uint8, or float32 in [-1, 1]."""
    from torchvision.io import ImageReadMode, decode_image  # noqa: PLC0415 - slow to import

    image: Tensor = decode_image(encoded, ImageReadMode.RGB)
    return image.float().div_(127.5).sub_(1) if dtype == "float32" else image
