"""SPDL: a pipeline of threads, with torchvision's JPEG decoder or with its own, which is FFmpeg's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.common import Batch, Batches, decode_jpeg, torch_threads
from loaders import ShardSet
from loaders.format.sample import META, POSE

Decoder = Literal["torchvision", "spdl.io"]


def ffmpeg_absent() -> str:
    """Return why SPDL's own decoder cannot run; empty if it can, or if SPDL itself is absent."""
    try:
        from spdl.io import lib  # noqa: PLC0415 - absent on some machines

        lib._libspdl.ImageFrames  # noqa: B018 - asking for it loads the libraries
    except ImportError:
        return ""
    except RuntimeError:
        return "no FFmpeg libraries that spdl.io was built for"
    return ""


@contextlib.contextmanager
def spdl_pipeline(
    root: Path, batch_size: int, threads: int, *, decoder: Decoder, planes: bool, seed: int
) -> Iterator[Batches]:
    """A global shuffle; each thread makes whole batches; labels are lists of bytes.

    Args:
        root: the shard set.
        batch_size: samples of a batch.
        threads: of the pipeline.
        decoder: of JPEG.
        planes: normalize to float32 NCHW; otherwise uint8, NCHW from torchvision and NHWC from spdl.io.
        seed: of the shuffle.
    """
    from spdl.pipeline import PipelineBuilder  # noqa: PLC0415 - absent on some machines

    shard_set = ShardSet(root, "train")
    decode = _with_torchvision if decoder == "torchvision" else _with_spdl
    load = _Load(shard_set, decode, planes)
    pipeline = (
        PipelineBuilder()
        .add_source(_orders(len(shard_set), batch_size, seed))
        .pipe(load, concurrency=threads)
        .add_sink(threads)
        .build(num_threads=threads, max_failures=0)
    )
    # the pipeline's threads are the parallelism
    with torch_threads(1), pipeline.auto_stop():
        yield Batches(iter(pipeline), threads)


class _Load:
    """Indices of a batch to the batch."""

    def __init__(
        self, shard_set: ShardSet, decode: Callable[[Sequence[NDArray[np.uint8]], bool], Tensor], planes: bool
    ):
        self._shard_set = shard_set
        self._member = shard_set.manifest.image_member or ""
        self._decode = decode
        self._planes = planes

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        images = self._decode(self._shard_set.read(indices, self._member), self._planes)
        pose, meta = ([data.tobytes() for data in self._shard_set.read(indices, name)] for name in (POSE, META))
        return images, pose, meta


def _with_torchvision(encoded: Sequence[NDArray[np.uint8]], planes: bool) -> Tensor:
    # copies: torch warns of memory that may not be written
    return torch.stack([decode_jpeg(torch.from_numpy(np.array(one)), planes) for one in encoded])


def _with_spdl(encoded: Sequence[NDArray[np.uint8]], planes: bool) -> Tensor:
    from spdl.io import load_image_batch, to_torch  # noqa: PLC0415 - absent on some machines

    images: Tensor = to_torch(load_image_batch([one.tobytes() for one in encoded], width=None, height=None))
    if not planes:
        return images
    count, height, width, _ = images.shape
    out = torch.empty(count, 3, height, width).copy_(images.permute(0, 3, 1, 2))
    return out.div_(127.5).sub_(1)


def _orders(samples: int, batch_size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices (B,) of batch after batch; each epoch is a permutation, without its incomplete batch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(samples)
        yield from order[: samples // batch_size * batch_size].reshape(-1, batch_size)
