"""Whether a run can go on under the present configuration, and what that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from engine.checkpoint.format import Checkpoint, ResumeState
from engine.config import TrainConfig, to_plain
from engine.training.consistency import flat
from engine.training.run_folder import from_weights
from loaders.errors import InputError

_NO_NEWS: Final = {"config", "run_dir", "resume", "debug", "profile", "load_2d", "load_3d"}
"""What says where a run is, and how it was called and begun."""


def check_resumable(checkpoint: Checkpoint, config: TrainConfig, image_size: int, source: Path) -> ResumeState:
    """Return the state to go on from. Raises InputError if it is no use to this run, and says what to keep.

    Args:
        checkpoint: of the run until now.
        config: of the run that is to go on.
        image_size: side of its images (pixels).
        source: where the checkpoint comes from.
    """
    if checkpoint.stage != config.stage:
        raise InputError(f"{source} is a {checkpoint.stage} run, not {config.stage}: give another folder")
    if checkpoint.resume_state is None:
        raise InputError(
            f"{source} holds weights, but not the state of a run: begin a new one: {from_weights(source, config.stage)}"
        )
    saved = dict(flat(checkpoint.config))
    kept: list[tuple[str, Any, Any]] = [("data.image_size", checkpoint.image_size, image_size)]
    if "heatmap_net" in checkpoint.weights:
        backbone = config.model.backbone
        kept.append(("model.backbone", saved.get("model.backbone", backbone), backbone))
    for name, before, now in kept:
        if before != now:
            raise InputError(f"{source} was trained with {name} {before}, not {now}: keep it, or begin a new run")
    optim = config.optim
    before = _optimizer(saved.get("optim.name", optim.name), saved.get("optim.apex", optim.apex))
    now = _optimizer(optim.name, optim.apex)
    if before != now:
        raise InputError(
            f"{source} was trained by {before}, whose state is of no use to {now}: keep optim.name and optim.apex, or "
            f"begin a new run from its weights: {from_weights(source, config.stage)}"
        )
    return checkpoint.resume_state


def changes(checkpoint: Checkpoint, config: TrainConfig) -> list[str]:
    """Return a line for each key of the configuration whose value is another one than in a checkpoint's."""
    saved = dict(flat(checkpoint.config))
    return [
        f"{name} is {value}, was {saved[name]} up to step {checkpoint.step}"
        for name, value in flat(to_plain(config))
        if name not in _NO_NEWS and saved.get(name, value) != value
    ]


def _optimizer(kind: str, apex: bool) -> str:
    """Return a name for optimizers whose state is the same: adam and adamw differ in what they make of it."""
    return ("Apex's " if apex else "") + ("adam or adamw" if kind in ("adam", "adamw") else kind)
