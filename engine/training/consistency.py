"""That all processes of a run were told the same: nodes are started one by one, and copies of data differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from engine.config import TrainConfig
from engine.distributed import Process
from loaders import Loader
from loaders.errors import InputError

_OWN: Final = {"debug", "data.threads", "data.remote", "model.pretrained"}
"""What may differ between nodes, as every path may: where things lie, how many cores there are."""


def check_consistency(config: TrainConfig, loaders: Mapping[str, Loader], process: Process) -> None:
    """Compare flags and shard sets of all processes; every process must call it.

    Gradients of different losses or of overlapping data would still be exchanged, and nobody would see it.

    Args:
        config: of this process.
        loaders: what it reads, by split.
        process: this one among all.

    Raises:
        InputError: names a process that differs from the main one, and in what; on all processes.
    """
    flags = flat(dataclasses.asdict(config))
    own = {name: value for name, value in flags if not isinstance(value, Path) and name not in _OWN}
    own |= {f"{split} shards": loader.shard_set.fingerprint for split, loader in loaders.items()}
    first, *others = process.gather(own)
    for rank, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name, value) != value:
                raise InputError(
                    f"process {rank} has {name} {other[name]}, process 0 has {value}: start all nodes with the same "
                    "flags and the same shard set"
                )


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested keys, joined by dots, with their values."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
