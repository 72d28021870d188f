"""Whether configurations agree: those of all processes, and that of a run with the checkpoint that it resumes.

Configurations are nested plain values, as `engine.config.used_values` returns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.format import Checkpoint, ResumeState
from engine.config import flatten
from engine.distributed import Process
from engine.training.run_folder import from_weights
from loaders import Loader
from loaders.errors import InputError

Config = Mapping[str, Any]

PER_NODE: Final = {"config", "run_dir", "load", "load_2d", "load_3d", "debug", "model.pretrained"} | {
    f"data.{name}" for name in ("shards", "remote", "threads")
}
"""What may differ between nodes: paths, the number of cores."""
_PER_CALL: Final = {"config", "run_dir", "resume", "debug", "profile", "load", "load_2d", "load_3d"}
"""What says where a run is, and how it was called and begun: no change of the run."""


def check_processes(config: Config, loaders: Mapping[str, Loader], process: Process) -> None:
    """Compare flags and shard sets of all processes, which are started one by one; every process must call it.

    Gradients of different losses or of overlapping data would still be exchanged, and nobody would see it.

    Args:
        config: of this process.
        loaders: what it reads, by split.
        process: this one among all.

    Raises:
        InputError: names a process that differs from the main one, and in what; on all processes.
    """
    own = {key: value for key, value in flatten(config).items() if key not in PER_NODE}
    own |= {f"{split} shards": loader.shard_set.fingerprint for split, loader in loaders.items()}
    first, *others = process.gather(own)
    for rank, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name, value) != value:
                raise InputError(
                    f"process {rank} has {name} {other[name]}, process 0 has {value}: start all nodes with the same "
                    "flags and the same shard set"
                )


def check_resumable(checkpoint: Checkpoint, config: Config, image_size: int, source: Path) -> ResumeState:
    """Return the state to go on from.

    Args:
        checkpoint: of the run until now.
        config: of the run that is to go on.
        image_size: side of its images (pixels).
        source: where the checkpoint comes from.

    Raises:
        InputError: the state is of no use to this run; says what to keep.
    """
    present = flatten(config)
    # an older program may not have recorded a key: then it is the present one
    saved = present | flatten(checkpoint.config)
    stage = present["stage"]
    if checkpoint.stage != stage:
        raise InputError(f"{source} is a {checkpoint.stage} run, not {stage}: give another folder")
    if checkpoint.resume_state is None:
        raise InputError(f"{source} holds weights, but not the state of a run: begin a new one: {from_weights(source)}")
    kept: list[tuple[str, Any, Any]] = [("data.image_size", checkpoint.image_size, image_size)]
    # a run has no backbone if its network has none
    kept += [(key, saved[key], present[key]) for key in ("model.network", "model.backbone") if key in present]
    for name, before, now in kept:
        if before != now:
            raise InputError(f"{source} was trained with {name} {before}, not {now}: keep it, or begin a new run")
    before, now = _optimizer(saved), _optimizer(present)
    if before != now:
        raise InputError(
            f"{source} was trained by {before}, whose state is of no use to {now}: keep optim.name and optim.apex, or "
            f"begin a new run from its weights: {from_weights(source)}"
        )
    return checkpoint.resume_state


def changes(checkpoint: Checkpoint, config: Config) -> list[str]:
    """Return a line for each key of a configuration whose value is another one than in a checkpoint's."""
    saved = flatten(checkpoint.config)
    return [
        f"{key} is {value}, was {saved[key]} up to step {checkpoint.step}"
        for key, value in flatten(config).items()
        if key not in _PER_CALL and saved.get(key, value) != value
    ]


def _optimizer(flat: Config) -> str:
    """Return a name for optimizers whose state is the same: adam and adamw differ in what they make of it."""
    name = "adam or adamw" if flat["optim.name"] in ("adam", "adamw") else flat["optim.name"]
    return f"Apex's {name}" if flat["optim.apex"] else str(name)
