"""Loading shard sets: `build_loader`, its configuration, and what it yields.

What a name needs is imported when the name is first used: tools and their worker processes need the formats alone, and
start in a tenth of the time and memory without torch; `tools.doctor` runs where hardly anything is installed.
"""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Final

runpy.run_path(str(Path(__file__).parents[1] / "models" / "siblings.py"))["check_siblings"](__name__, "models")

if TYPE_CHECKING:
    from loaders.augment import AugmentConfig
    from loaders.base import Loader
    from loaders.batch import PoseBatch
    from loaders.build import build_loader
    from loaders.config import DataConfig, ReaderConfig
    from loaders.errors import InputError
    from loaders.format.sample import decode_sample
    from loaders.format.shard_set import ShardSet

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

_MODULES: Final = {
    "AugmentConfig": "loaders.augment",
    "DataConfig": "loaders.config",
    "InputError": "loaders.errors",
    "Loader": "loaders.base",
    "PoseBatch": "loaders.batch",
    "ReaderConfig": "loaders.config",
    "ShardSet": "loaders.format.shard_set",
    "build_loader": "loaders.build",
    "decode_sample": "loaders.format.sample",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
