"""Loading shard sets: `build_loader`, its configuration, and what it yields.

Importing the package does not import torch: tools and their worker processes need the formats alone, and start in a
tenth of the time and memory without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from loaders.augment import AugmentConfig
from loaders.config import DataConfig, ReaderConfig
from loaders.errors import InputError
from loaders.format.sample import decode_sample
from loaders.format.shard_set import ShardSet

if TYPE_CHECKING:
    from loaders.base import Loader
    from loaders.batch import PoseBatch
    from loaders.build import build_loader

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "InputError",
    "Loader",
    "PoseBatch",
    "ReaderConfig",
    "ShardSet",
    "build_loader",
    "decode_sample",
]

_NEED_TORCH: Final = {"Loader": "loaders.base", "PoseBatch": "loaders.batch", "build_loader": "loaders.build"}


def __getattr__(name: str) -> object:
    """Import the names that need torch when they are first used."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_NEED_TORCH[name]), name)
