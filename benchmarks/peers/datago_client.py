"""datago: threads of Rust that read and decode files; it has no labels, which are found by the files' names."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.peers.common import Batch, Batches, Dtype, normalize, stored_samples

_AHEAD: Final = 4
"""Batches of decoded samples that it may have ready (batches)."""


@contextlib.contextmanager
def datago_client(root: Path, copy: Path, batch_size: int, *, dtype: Dtype) -> Iterator[Batches]:
    """Files in a random order of its own; images are (B, H, W, 3) uint8, or float32 NCHW; labels are lists of bytes.

    It takes as many threads as the machine has cores. Its decoder is one in Rust, a tenth of a gray level
    off the exact one on average; batches are made, and normalized, in the thread that takes them.

    Args:
        root: the shard set.
        copy: folder of the files, made if absent.
        batch_size: samples of a batch.
        dtype: of the images.
    """
    from datago import DatagoClient  # noqa: PLC0415 - absent on some machines

    copy.mkdir(exist_ok=True)
    labels = {}
    for number, sample in enumerate(stored_samples(root)):
        path = copy / f"{number}.jpg"
        if not path.exists():
            path.write_bytes(sample["image"])
        labels[path.stem] = sample["pose"], sample["meta"]
    files = {"root_path": str(copy), "random_sampling": True, "rank": 0, "world_size": 1}
    buffers = {"prefetch_buffer_size": _AHEAD * batch_size, "samples_buffer_size": _AHEAD * batch_size}
    client = DatagoClient(json.dumps({"source_type": "file", "source_config": files, "limit": len(labels), **buffers}))

    def samples() -> Iterator[Any]:
        while True:
            yield from iter(client.get_sample, None)
            client.start()

    def stream() -> Iterator[Batch]:
        decoded = samples()
        while batch := list(itertools.islice(decoded, batch_size)):
            images = torch.from_numpy(np.stack([one.image.to_numpy_array() for one in batch]))
            poses, metas = zip(*(labels[Path(json.loads(one.id)).stem] for one in batch), strict=True)
            yield normalize(images.permute(0, 3, 1, 2)) if dtype == "float32" else images, poses, metas

    try:
        yield Batches(stream())
    finally:
        client.stop()
