"""Loading shard sets: `build_loader` and its configuration.

Importing the package does not import torch: tools and their worker processes need the formats alone, and start in a
tenth of the time and memory without it.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Literal

from loaders.augment import AugmentConfig
from loaders.config import DataConfig, ReaderConfig
from loaders.errors import InputError
from loaders.format.shard_set import ShardSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from loaders.base import Loader
    from loaders.batch import PoseBatch

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "InputError",
    "Loader",
    "PoseBatch",
    "ReaderConfig",
    "ShardSet",
    "build_loader",
]

_WITH_TORCH = {"Loader": "loaders.base", "PoseBatch": "loaders.batch"}


def __getattr__(name: str) -> object:
    """Import the names that need torch when they are first asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WITH_TORCH[name]), name)


def build_loader(
    config: DataConfig,
    split: str,
    *,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    training: bool = False,
    outputs: Sequence[Literal["image", "worldp"]] = ("image",),
    dtype: Literal["uint8", "float32"] = "uint8",
    cached_batch: bool = False,
) -> Loader:
    """Return the loader of a split.

    Args:
        config: what is loaded, and how.
        split: "train", "val" or "test".
        rank: this process among ``world_size``.
        world_size: number of processes that share the split.
        device: where batches lie; DALI decodes there too.
        training: shuffle, augment and drop the last partial global batch; otherwise every sample once, in order.
        outputs: images in a batch; labels are always there. Without any, nothing is decoded.
        dtype: "uint8", 0 to 255, channels_last, which our networks normalize themselves: a quarter of the bytes;
            "float32", -1 to 1, contiguous, for networks that do not.
        cached_batch: repeat the first batch as often as there are batches: the upper bound for benchmarks.

    Raises:
        InputError: the shard set is missing, damaged, empty, or lacks what the configuration asks for.
    """
    shard_set = ShardSet(config.shards, split, checksums=config.checksums, remote=config.remote)
    if not len(shard_set):
        raise InputError(f"{shard_set.folder} has no samples: run tools.shard on a dataset with this split")
    loader = _loader_class(config, outputs, str(device))(
        shard_set,
        config,
        rank=rank,
        world_size=world_size,
        device=device,
        training=training,
        outputs=outputs,
        dtype=dtype,
    )
    if not cached_batch:
        return loader
    from loaders.cached_batch import CachedBatchLoader  # noqa: PLC0415

    return CachedBatchLoader(loader)


def _loader_class(config: DataConfig, outputs: Sequence[str], device: str) -> type[Loader]:
    """Return the class that makes the batches."""
    # imported only where they are used: the torch loader must work where DALI is not installed
    if config.access == "sequential":
        _require_dali("data.access sequential is DALI's own reader")
        from loaders.dali.streamed import StreamLoader  # noqa: PLC0415

        return StreamLoader
    if not outputs:
        from loaders.label_loader import LabelLoader  # noqa: PLC0415

        return LabelLoader
    on_gpu = device.startswith("cuda")
    if config.backend == "dali" or (config.backend != "torch" and on_gpu and _has_dali()):
        _require_dali("data.backend is dali")
        from loaders.dali.loader import DaliLoader  # noqa: PLC0415

        return DaliLoader
    from loaders.torch_loader import TorchLoader  # noqa: PLC0415

    return TorchLoader


def _has_dali() -> bool:
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def _require_dali(why: str) -> None:
    if not _has_dali():
        raise InputError(f"{why}, and DALI is missing: pip install nvidia-dali-cuda130, or give --data.backend torch")
