"""`build_loader`, which chooses among the loaders, and the two loaders that decode nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import torch

from loaders.base import Blocks, Indices, Loader
from loaders.batch import Output
from loaders.config import DataConfig
from loaders.errors import InputError
from loaders.format.shard_set import ShardSet

_SAMPLES_AT_ONCE: Final = 2048
"""Labels that are made and moved to the device together, which divides the host's work per step (samples). Many more
no longer fit the cache, and took 1.6 times as long each. An epoch begins with one batch and doubles, so that its first
step does not wait for many."""


def build_loader(
    config: DataConfig,
    split: str,
    *,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    training: bool = False,
    outputs: Sequence[Output] = ("image",),
    dtype: Literal["uint8", "float32"] = "uint8",
    cached_batch: bool = False,
) -> Loader:
    """Return the loader of a split.

    Args:
        config: what is loaded, and how.
        split: "train", "val" or "test".
        rank: this process among ``world_size``.
        world_size: number of processes that share the split.
        device: where batches lie; DALI decodes there too. "cuda" alone is the current device.
        training: shuffle, augment and drop the last partial global batch; otherwise every sample once, in order.
        outputs: what a batch holds beside its labels, which are always there: "image", "worldp", "depth", "object_id",
            "rot". Without any, nothing is decoded. The middle three move with the image by nearest neighbor, their
            values as they are stored.
        dtype: "uint8", 0 to 255, channels_last, which our networks normalize themselves: a quarter of the bytes;
            "float32", -1 to 1, contiguous, for networks that do not.
        cached_batch: repeat the first batch as often as there are batches: the upper bound for benchmarks.

    Raises:
        InputError: the shard set is missing, damaged, empty, or lacks what the configuration asks for.
    """
    device = torch.device(device)
    if device == torch.device("cuda") and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    shard_set = ShardSet(config.shards, split, checksums=config.checksums, remote=config.remote)
    if not len(shard_set):
        raise InputError(f"{shard_set.folder} has no samples: run tools.shard on a dataset with this split")
    loader = _loader_class(config, outputs, device)(
        shard_set,
        config,
        rank=rank,
        world_size=world_size,
        device=device,
        training=training,
        outputs=outputs,
        dtype=dtype,
    )
    return CachedBatchLoader(loader) if cached_batch else loader


def _loader_class(config: DataConfig, outputs: Sequence[str], device: torch.device) -> type[Loader]:
    if not outputs and config.access == "random":
        return LabelLoader
    sequential = config.access == "sequential"
    decodes = any(output != "rot" for output in outputs)
    has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
    if not has_dali and (sequential or config.backend == "dali"):
        demand = "data.access sequential is DALI's own reader" if sequential else "data.backend is dali"
        raise InputError(
            f"{demand}, and DALI is missing: pip install nvidia-dali-cuda130, or give --data.backend torch"
        )
    # imported only where they are used: the torch loader must work where DALI is not installed
    chosen = config.backend == "dali" or (has_dali and config.backend == "auto" and device.type == "cuda")
    if sequential or (chosen and decodes):
        from loaders.dali.loader import DaliLoader  # noqa: PLC0415

        return DaliLoader
    from loaders.torch_loader import TorchLoader  # noqa: PLC0415

    return TorchLoader


class LabelLoader(Loader):
    """Batches of labels alone; those of the whole split are read once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pose, self._meta = self.shard_set.labels()

    def _load(self, plan: list[Indices]) -> Blocks:
        first, size, most = 0, 1, max(1, _SAMPLES_AT_ONCE // self.batch_frames)
        while first < len(plan):
            block = plan[first : first + size]
            indices = np.concatenate(block)
            with self.stage_times.timed("labels"):
                labels = self._label_batch(self._pose[indices], self._meta[indices], indices, self._draw(indices))
            yield self._on_device(labels).split([len(part) for part in block])
            first, size = first + size, min(2 * size, most)


class CachedBatchLoader(Loader):
    """The first batch of another loader, which is closed, as often as that one had batches."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(
            loader.shard_set,
            loader.config,
            rank=loader.rank,
            world_size=loader.world_size,
            device=loader.device,
            training=loader.training,
            outputs=loader.outputs,
        )
        self._batch = next(iter(loader)).as_frames()
        loader.close()

    def _load(self, plan: list[Indices]) -> Blocks:
        yield [self._batch] * len(plan)
