"""Evaluating a stage's network on a split, every sample once, on all processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from engine.distributed import Process
from engine.precision import Precision
from engine.stages import Prediction, Stage
from loaders import InputError, PoseBatch

_FRAMES: Final = "frames"
_COUNTED: Final = "frames of "
_COUNT: Final = "count of "
"""What sums are called that are no metrics themselves."""


@dataclass(frozen=True)
class Validation:
    """Result of an evaluation."""

    frames: int
    metrics: dict[str, float]
    """Means over the frames: loss and its terms, and the stage's errors. How many joints these leave out."""
    example: tuple[PoseBatch, Prediction] | None
    """This process's first batch, of windows the frames that are predicted."""


@torch.no_grad()
def validate(
    stage: Stage, model: nn.Module, batches: Iterable[PoseBatch], process: Process, precision: Precision
) -> Validation:
    """Return the means over all frames of all processes' ``batches``, not over batches or processes.

    Raises InputError if no joint is in the image, but heatmaps should say where they are, or if none of these means is
    the stage's metric.
    """
    process.same_buffers(model)
    was_training = model.training
    model.eval()
    example = None
    sums: dict[str, Tensor] = {}
    for batch in batches:
        with precision.autocast():
            prediction, terms = stage.run(model, batch)
        metrics = {f"loss/{name}": term * len(batch) for name, term in terms.items()}
        metrics["loss"] = torch.stack(list(metrics.values())).sum()
        for name, errors in stage.errors(prediction, batch).items():
            metrics |= {name: errors.sum, _COUNTED + name: errors.frames}
        metrics |= {_COUNT + name: count for name, count in stage.left_out(prediction, batch).items()}
        metrics[_FRAMES] = torch.tensor(len(batch))
        for name, value in metrics.items():
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64, device=value.device)) + value.double()
        example = example or (batch.predicted, prediction)
    model.train(was_training)
    result = _gather(sums, example, process)
    if stage.metric not in result.metrics:
        raise InputError(f"{stage.name} is judged by {stage.metric}, and there are {', '.join(result.metrics)}")
    return result


def _gather(sums: dict[str, Tensor], example: tuple[PoseBatch, Prediction] | None, process: Process) -> Validation:
    # with fewer batches than processes, some have nothing to add, not even the names
    names = process.everyones_keys(sums)
    zero = torch.zeros((), dtype=torch.float64, device=process.device)
    totals = process.sum(torch.stack([sums.get(name, zero).to(process.device) for name in names])).tolist()
    values = dict(zip(names, totals, strict=True))
    frames = values.pop(_FRAMES)
    counts = {name.removeprefix(_COUNT): int(values.pop(name)) for name in names if name.startswith(_COUNT)}
    counted = {name.removeprefix(_COUNTED): values.pop(name) for name in names if name.startswith(_COUNTED)}
    if 0 in counted.values():
        raise InputError("no joint of the validation split is in its image: give tools.shard a wider --crop")
    means = {name: total / counted.get(name, frames) for name, total in values.items()}
    return Validation(int(frames), means | counts, example)
