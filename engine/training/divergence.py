"""Where training diverged, and what can be done."""

from __future__ import annotations

from pathlib import Path

from engine.distributed import Process
from engine.training.checkpointer import LAST, checkpoints
from engine.training.running_means import RunningMeans
from loaders import ShardSet


def first_non_finite(means: RunningMeans, shard_set: ShardSet, process: Process, step: int) -> tuple[int, str]:
    """Return the first step whose loss is not finite, and a description; every process must call it.

    Args:
        means: losses up to ``step``.
        shard_set: where the samples come from.
        process: this one among all.
        step: the present one.
    """
    own = means.first_spoilt()
    spoilt = None if own is None else (own[0], process.rank, [*map(shard_set.key, own[1])])
    first = min((found for found in process.gather(spoilt) if found is not None), default=None)
    earliest = step - means.steps + 1
    if first is None:
        return earliest, f"within the {means.steps} steps to {step}"
    number, rank, keys = first
    samples = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    return earliest + number, f"at step {earliest + number}, process {rank}, samples {samples}"


def remedy(run_dir: Path, saved_step: int | None, step: int) -> str:
    """Return what to do about a loss that is not finite at ``step``, where ``saved_step`` was saved last."""
    last = run_dir / LAST
    how = "with a lower optim.lr, with optim.max_grad_norm, or in --precision bf16 or fp32"
    if saved_step is not None and saved_step < step - 1:
        return f"continue from {last} by --resume {how}"
    if saved_step and any(path != last for path in checkpoints(run_dir)):
        # a lower rate does not help weights that are too large already
        return f"{last} is from just before: remove it, and continue from an older one by --resume {how}"
    return f"begin a new run {how}"
