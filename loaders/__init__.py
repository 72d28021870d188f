"""Loading shard sets: `build_loader` and its configuration."""

from __future__ import annotations

import importlib.util

import torch

from loaders.augment import AugmentConfig
from loaders.base import Loader
from loaders.batch import PoseBatch
from loaders.config import DataConfig
from loaders.errors import InputError
from loaders.label_loader import LabelLoader
from loaders.resident_loader import ResidentLoader
from loaders.shard_set import ShardSet
from loaders.torch_loader import TorchLoader

__all__ = ["AugmentConfig", "DataConfig", "InputError", "Loader", "PoseBatch", "ShardSet", "build_loader"]


def build_loader(
    config: DataConfig,
    split: str,
    *,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    training: bool = False,
) -> Loader:
    """Return the loader of a split.

    Args:
        config: what is loaded, and how.
        split: "train", "val" or "test".
        rank: this process among ``world_size``.
        world_size: number of processes that share the split.
        device: where batches lie; DALI decodes there too.
        training: shuffle, augment and drop the last partial global batch; otherwise every sample once, in order.

    Raises:
        InputError: the shard set is missing, damaged, empty, or lacks what the configuration asks for.
    """
    shard_set = ShardSet(config.shards, split, checksums=config.checksums)
    if not len(shard_set):
        raise InputError(f"{shard_set.folder} has no samples: run tools.shard on a dataset with this split")
    loader = _loader_class(config)(
        shard_set, config, rank=rank, world_size=world_size, device=device, training=training
    )
    return ResidentLoader(loader) if config.backend == "resident" else loader


def _loader_class(config: DataConfig) -> type[Loader]:
    """Return the class that makes the batches."""
    if not config.outputs:
        return LabelLoader
    has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
    if config.backend == "dali" and not has_dali:
        raise InputError("data.backend is dali, which is not installed: pip install nvidia-dali-cuda130, or use torch")
    if config.backend == "torch" or not has_dali:
        return TorchLoader
    # imported only where it is used: the torch loader must work where DALI is not installed
    from loaders.dali_loader import DaliLoader  # noqa: PLC0415

    return DaliLoader
