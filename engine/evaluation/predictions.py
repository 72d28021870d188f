"""What a network says about every frame of a split, collected from all processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.cli.progress import progress_bar
from engine.distributed import Process
from engine.precision import Precision
from engine.stages import Prediction, Stage
from loaders import Loader, PoseBatch
from loaders.errors import Failure
from models.heatmaps import decode_heatmaps, select_heatmap_joints
from models.skeleton import HEATMAP_JOINTS, JOINTS

_SHAPES: Final = {
    "joints_3d": (len(JOINTS), 3),
    "true_3d": (len(JOINTS), 3),
    "joints_2d": (len(HEATMAP_JOINTS), 2),
    "true_2d": (len(HEATMAP_JOINTS), 2),
}


@dataclass(frozen=True)
class Predictions:
    """n frames."""

    true_3d: NDArray[np.float32]
    """(n, 16, 3), metres, camera frame, relative to Neck."""
    true_2d: NDArray[np.float32]
    """(n, 15, 2), pixels of the network's image, centers at integers."""
    joints_3d: NDArray[np.float32] | None
    """As ``true_3d``; None if the stage predicts no pose."""
    joints_2d: NDArray[np.float32] | None
    """As ``true_2d``: the peaks of the heatmaps; None if the stage predicts none."""
    frames: NDArray[np.int64]
    """(n,), positions in the split, ascending; all of it, but for frames that were skipped."""


@torch.inference_mode()
def collect(stage: Stage, model: nn.Module, loader: Loader, process: Process, precision: Precision) -> Predictions:
    """Run the network over ``loader``'s split, every frame once; every process gets all predictions.

    Raises Failure for a prediction that is no number.
    """
    frames = len(loader.shard_set)
    found: dict[str, list[Tensor]] = {}
    with progress_bar(total=frames, unit="frame", desc="evaluating", disable=not process.is_main) as bar:
        for batch in loader:
            with precision.autocast():
                prediction = stage.predict(model, batch)
            # kept where they are: reading them would make the host wait for the device at every batch
            for name, rows in {"index": batch.index, **_rows(stage, prediction, batch)}.items():
                found.setdefault(name, []).append(rows)
            bar.update(min(len(batch) * process.world_size, frames - bar.n))
    gathered = _gather(found, frames, process, may_skip=loader.config.on_bad_sample == "skip")
    for name in ("joints_3d", "joints_2d"):
        if name in gathered and not (finite := np.isfinite(gathered[name]).all((1, 2))).all():
            first = loader.shard_set.key(int(gathered["frames"][~finite][0]))
            raise Failure(
                f"{(~finite).sum()} of {len(finite)} predictions are no finite numbers, the first is that of {first}: "
                "take --precision fp32, or another checkpoint"
            )
    return Predictions(**{"joints_3d": None, "joints_2d": None, **gathered})


def _rows(stage: Stage, prediction: Prediction, batch: PoseBatch) -> dict[str, Tensor]:
    rows = {"true_3d": batch.joints_3d, "true_2d": select_heatmap_joints(batch.joints_2d)}
    if prediction.joints_3d is not None:
        rows["joints_3d"] = prediction.joints_3d.float()
    if prediction.heatmap is not None:
        rows["joints_2d"] = decode_heatmaps(prediction.heatmap, stage.image_size)[0]
    return rows


def _gather(found: dict[str, list[Tensor]], frames: int, process: Process, *, may_skip: bool) -> dict[str, Any]:
    """Put everybody's rows at their frames' places: sums of arrays that are zero where others have something."""
    names = process.everyones_keys(found)
    device = process.device
    own = torch.cat(found["index"]) if found else torch.empty(0, dtype=torch.int64, device=device)
    seen = process.sum(torch.bincount(own, minlength=frames))
    if bool((seen > 1).any()) or not (may_skip or bool(seen.all())):
        raise RuntimeError(f"{int((seen != 1).sum())} of {frames} frames were not seen exactly once")
    present = seen.nonzero().flatten().cpu()
    gathered = {"frames": present.numpy()}
    for name in names:
        if name == "index":
            continue
        rows = torch.zeros(frames, *_SHAPES[name], device=device)
        if found:
            rows[own] = torch.cat(found[name])
        gathered[name] = process.sum(rows).cpu()[present].numpy()
    return gathered
