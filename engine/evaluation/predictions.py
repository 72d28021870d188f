"""A network's predictions for every frame of a split, collected from all processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.cli.progress import progress_bar
from engine.distributed import Process
from engine.loaded_model import LoadedModel
from engine.precision import Precision
from loaders import Loader
from loaders.errors import Failure, InputError
from models.heatmaps import decode_heatmaps


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """n frames: their labels, and what a network predicts for them."""

    index: NDArray[np.int64]
    """(n,), positions in the split, ascending; all of it, but for frames that were skipped, or that end no window."""
    meta: NDArray[np.int32]
    """(n, 4): subject, environment, frame, action."""
    true_3d: NDArray[np.float32]
    """(n, J, 3), metres, camera frame, relative to the root."""
    true_2d: NDArray[np.float32]
    """(n, K, 2), pixels of the network's image, centers at integers."""
    visible: NDArray[np.uint8]
    """(n, K): `models.camera.UNSEEN`, `IN_LENS` or `IN_IMAGE`."""
    joints_3d: NDArray[np.float32] | None = None
    """As ``true_3d``; None if the stage predicts no pose."""
    joints_2d: NDArray[np.float32] | None = None
    """As ``true_2d``: the peaks of the heatmaps; None if the stage predicts none."""


@torch.inference_mode()
def predict_split(loaded: LoadedModel, loader: Loader, process: Process, precision: Precision) -> Predictions:
    """Run a network over ``loader``'s split, every frame or window once; every process gets all predictions.

    Raises Failure for a prediction that is not finite, InputError if every frame was skipped.
    """
    ends = loader.windows[:, -1]
    batches: dict[str, list[Tensor]] = {}
    with progress_bar(total=len(ends), unit="frame", desc="evaluating", disable=not process.is_main) as bar:
        for batch in loader:
            with precision.autocast():
                prediction = loaded.stage.run_to_predict(loaded.model, batch)
            truth = batch.predicted
            rows = {
                "index": truth.index,
                "meta": truth.meta,
                "true_3d": truth.joints_3d,
                "true_2d": loaded.stage.select_heatmap_joints(truth.joints_2d),
                "visible": loaded.stage.select_heatmap_joints(truth.visible),
            }
            if prediction.joints_3d is not None:
                rows["joints_3d"] = prediction.joints_3d.float()
            if prediction.heatmap is not None:
                rows["joints_2d"] = decode_heatmaps(prediction.heatmap, loaded.stage.image_size)[0]
            # kept where they are: reading them would make the host wait for the device at every batch
            for name, tensor in rows.items():
                batches.setdefault(name, []).append(tensor)
            bar.update(min(len(batch) * process.world_size, len(ends) - bar.n))
    own = {name: torch.cat(tensors) for name, tensors in batches.items()}
    may_skip = loader.config.on_bad_sample == "skip"
    gathered = _gather(own, ends, len(loader.shard_set), process, may_skip=may_skip)
    if not gathered:
        raise InputError(f"{loader.shard_set.folder} has no image that can be decoded: copy the shard set again")
    predictions = Predictions(**gathered)
    for joints in (predictions.joints_3d, predictions.joints_2d):
        if joints is None:
            continue
        non_finite = predictions.index[~np.isfinite(joints).all((1, 2))]
        if len(non_finite):
            raise Failure(
                f"{len(non_finite)} of {len(joints)} predictions are no finite numbers, the first is that of "
                f"{loader.shard_set.key(int(non_finite[0]))}: take --precision fp32, or another checkpoint"
            )
    return predictions


def _gather(
    own: dict[str, Tensor], expected: NDArray[np.int64], frames: int, process: Process, *, may_skip: bool
) -> dict[str, Any]:
    """Return the rows of all processes by their positions in the split; ``own`` is empty on one that had no batch."""
    # a sum of arrays that are zero where other processes have rows
    index = own.get("index", torch.empty(0, dtype=torch.int64, device=process.device))
    seen = process.sum(torch.bincount(index, minlength=frames))
    wanted = torch.bincount(torch.from_numpy(expected), minlength=frames).to(seen.device)
    if bool((seen > wanted).any()) or not (may_skip or bool((seen == wanted).all())):
        raise RuntimeError(f"{int((seen != wanted).sum())} of {frames} frames were not seen exactly once")
    present = seen.nonzero().flatten().cpu()
    layouts = process.gather({name: (tuple(rows.shape[1:]), rows.dtype) for name, rows in own.items()})
    gathered = {}
    for name, (shape, dtype) in next(filter(None, layouts), {}).items():
        rows = torch.zeros(frames, *shape, dtype=dtype, device=process.device)
        if own:
            rows[index] = own[name]
        gathered[name] = process.sum(rows).cpu()[present].numpy()
    return gathered
