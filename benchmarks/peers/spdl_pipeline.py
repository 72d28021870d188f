"""SPDL: a pipeline of threads, with torchvision's JPEG decoder or with its own, which is FFmpeg's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.common import Batch, Batches, Dtype, decode_jpeg, torch_threads
from loaders import ShardSet
from loaders.format.sample import META, POSE


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
    root: Path, batch_size: int, threads: int, *, decoder: str, dtype: Dtype, seed: int
) -> Iterator[Batches]:
    """A global shuffle; each thread makes whole batches; labels are lists of bytes.

    ``decoder`` is "torchvision", or "spdl.io", whose uint8 images are NHWC.
    """
    from spdl.pipeline import PipelineBuilder  # noqa: PLC0415 - absent on some machines

    shard_set = ShardSet(root, "train")
    member = shard_set.manifest.image_member or ""
    decode = _with_torchvision if decoder == "torchvision" else _with_spdl

    def load(indices: NDArray[np.int64]) -> Batch:
        images = decode(shard_set.read(indices, member), dtype)
        pose, meta = ([data.tobytes() for data in shard_set.read(indices, name)] for name in (POSE, META))
        return images, pose, meta

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


def _with_torchvision(encoded: Sequence[NDArray[np.uint8]], dtype: Dtype) -> Tensor:
    # copies: torch warns of memory that may not be written
    return torch.stack([decode_jpeg(torch.from_numpy(np.array(one)), dtype) for one in encoded])


def _with_spdl(encoded: Sequence[NDArray[np.uint8]], dtype: Dtype) -> Tensor:
    from spdl.io import load_image_batch, to_torch  # noqa: PLC0415 - absent on some machines

    images: Tensor = to_torch(load_image_batch([one.tobytes() for one in encoded], width=None, height=None))
    if dtype == "uint8":
        return images
    planes = images.permute(0, 3, 1, 2)
    return torch.empty(planes.shape).copy_(planes).div_(127.5).sub_(1)


def _orders(samples: int, batch_size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices (B,) of batch after batch; each epoch is a permutation, without its incomplete batch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(samples)
        yield from order[: samples // batch_size * batch_size].reshape(-1, batch_size)
