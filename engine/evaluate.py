"""Judge a checkpoint on a split: ``python engine/evaluate.py --checkpoint FILE --data.shards SHARDS --output DIR``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from numpy.typing import NDArray

from engine.cli.command import OK, Command, command
from engine.cli.progress import note
from engine.cli.signals import Signals, Stopped
from engine.distributed import Process, join_processes
from engine.evaluation.examples import collect_examples
from engine.evaluation.frame_errors import frame_errors
from engine.evaluation.metrics import summarize
from engine.evaluation.per_frame import Form, check_form, frame_columns, write_per_frame
from engine.evaluation.predictions import Predictions, collect
from engine.loaded_model import LoadedModel, read_model
from engine.precision import Precision, PrecisionName
from engine.report.tables import action_table
from engine.report.writer import write_report
from loaders import DataConfig, Loader, ReaderConfig, ShardSet, build_loader
from loaders.errors import InputError
from loaders.system.os_errors import naming
from models.camera import XR_EGOPOSE
from models.skeleton import NECK

_NOTES: Final = {
    "train2d": "This checkpoint holds the heatmap network alone: it predicts no pose, only positions in the image.",
    "train3d": "This checkpoint holds the lifting network alone: its poses come from the true heatmaps.",
}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Command):
    """An evaluation."""

    checkpoint: Path
    """Checkpoint of ours or of the reference code."""
    output: Path
    """Folder for metrics.json, the images and report.html; what it holds of these is replaced."""
    split: Literal["train", "val", "test"] = "test"
    """Which frames."""
    data: ReaderConfig
    per_frame: Form | None = None
    """Write a table with one row per frame: its key, every measure, every joint's error; parquet needs pyarrow."""
    examples: int = 4
    """Best, median and worst frames to show (frames of each)."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    timeout: float = 600.0
    """How long a process waits for the others (seconds)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.examples < 1:
            raise InputError(f"examples is {self.examples}: give at least 1")
        check_form(self.per_frame)


@command("evaluate", "Judge a checkpoint on a split: table, metrics.json, images, report.html.")
def main(config: EvaluateConfig) -> int:
    """Evaluate and return the exit status."""
    try:
        with join_processes(config.device, config.timeout) as process, _stoppable(process):
            return _evaluate(config, process)
    except Stopped as stopped:
        return 128 + stopped.number


def _stoppable(process: Process) -> Signals:
    """Return the context in which a signal raises Stopped: there is nothing to be saved."""

    def answer(signal_name: str) -> None:
        if process.is_main:
            note(f"evaluate: {signal_name}: ending without a report")

    return Signals(answer, raises=True)


def _evaluate(config: EvaluateConfig, process: Process) -> int:
    trained = read_model(config.checkpoint, process.device)
    loader = _loader(config, trained, process)
    precision = Precision.choose(config.precision, process.device)
    started = time.perf_counter()
    found = collect(trained.stage, trained.model, loader, process, precision)
    speed = len(found.frames) / (time.perf_counter() - started)
    skipped = process.everyones_keys(dict.fromkeys(loader.skipped.values()))
    loader.close()
    if process.is_main:
        about = {
            "checkpoint": str(config.checkpoint),
            "stage": trained.stage.name,
            "backbone": trained.backbone,
            "image_size": trained.stage.image_size,
            "shards": str(config.data.shards),
            "split": config.split,
            "fingerprint": loader.shard_set.fingerprint,
            "device": process.device.type,
            "processes": process.world_size,
            "precision": precision.name,
            "images_per_second": round(speed, 1),
            "skipped": skipped,
            "notes": [note for note in (_NOTES.get(trained.stage.name), _note_of(skipped)) if note],
        }
        _report(config, trained, loader, found, about)
    return OK


def _note_of(skipped: Sequence[str]) -> str:
    return f"{len(skipped)} frames left out, the first: {skipped[0]}" if skipped else ""


def _loader(config: EvaluateConfig, trained: LoadedModel, process: Process) -> Loader:
    return build_loader(
        DataConfig(**vars(config.data), image_size=trained.stage.image_size),
        config.split,
        rank=process.rank,
        world_size=process.world_size,
        device=process.device,
        outputs=trained.stage.outputs,
    )


def _report(
    config: EvaluateConfig, trained: LoadedModel, loader: Loader, found: Predictions, about: dict[str, Any]
) -> None:
    """Write the report and print the table."""
    shard_set = loader.shard_set
    meta = shard_set.labels()[1][found.frames]
    actions = [shard_set.manifest.actions[action] for action in meta[:, 3]]
    errors = frame_errors(found, actions, mean_pose(config.data.shards))
    # a pixel of the network's image is so many of the dataset's frame
    metrics = summarize(errors, frame_pixels=XR_EGOPOSE.fy / loader.camera.fy) | {"evaluation": about}
    examples = collect_examples(
        config.data, config.split, found, errors, meta, image_size=loader.image_size, count=config.examples
    )
    with naming(config.output):
        page = write_report(config.output, metrics, examples, trained.run)
        if config.per_frame:
            write_per_frame(config.output, config.per_frame, frame_columns(shard_set, found.frames, errors))
    sys.stdout.write(
        "".join(f"{note}\n" for note in about["notes"])
        + action_table(metrics).to_text()
        + ("single and dual branch: published, on the real test set\n" if "mpjpe_mm" in metrics else "")
        + f"{metrics['frames']:,} frames of the {config.split} split, {about['images_per_second']:,.0f} images/s\n"
        + f"report: {page}\n"
    )


def mean_pose(root: Path) -> NDArray[np.float64] | None:
    """Return the mean pose (16, 3) of the training split, metres relative to Neck; None if there is no such split."""
    try:
        shard_set = ShardSet(root, "train")
    except InputError as error:
        note(f"evaluate: no mean pose to compare with: {error}")
        return None
    if not len(shard_set):
        return None
    poses = shard_set.labels()[0][:, :, 2:].astype(np.float64)
    return np.asarray((poses - poses[:, NECK : NECK + 1]).mean(0))


if __name__ == "__main__":
    sys.exit(main())
