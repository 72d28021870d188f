"""Evaluate a checkpoint on a split.

``python engine/evaluate.py --checkpoint FILE --data.shards SHARDS --output DIR``
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from engine.cli.command import OK, Command, command
from engine.cli.signals import Signals, Stopped
from engine.distributed import Process, join_processes
from engine.evaluation.comparison import OtherFrames, compare
from engine.evaluation.per_frame import PerFrameFormat, check_installed, frame_keys, write_per_frame
from engine.evaluation.split import evaluate_split, split_loader
from engine.loaded_model import read_model
from engine.precision import Precision, PrecisionName
from engine.report.text import describe
from engine.report.writer import write_report
from loaders import ReaderConfig
from loaders.ranges import Range, check_ranges
from loaders.system.os_errors import naming

logger = logging.getLogger(__name__)


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
    per_frame: PerFrameFormat | None = None
    """Write a table with one row per frame: its key, every metric, every joint's error; parquet needs pyarrow."""
    against: Path | None = None
    """Compare frame by frame with another checkpoint: folder of its evaluation with --per-frame, or that table."""
    examples: int = 4
    """Best, median and worst frames to show (frames of each)."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    timeout: float = 600.0
    """How long a process waits for the others (seconds)."""

    def __post_init__(self) -> None:
        check_ranges(self, "--", examples=Range(1), timeout=Range(0, 1e9, inside=True))
        check_installed(self.per_frame)


@command("evaluate", "Evaluate a checkpoint on a split: table, metrics.json, images, report.html.")
def main(config: EvaluateConfig) -> int:
    """Evaluate and return the exit status."""
    try:
        with (
            join_processes(config.device, config.timeout) as process,
            Signals(partial(_note_ending, process), raises=True),
        ):
            _evaluate(config, process)
    except Stopped as stopped:
        return 128 + stopped.number
    return OK


def _note_ending(process: Process, signal_name: str) -> None:
    if process.is_main:
        logger.info("evaluate: %s: ending without a report", signal_name)


def _evaluate(config: EvaluateConfig, process: Process) -> None:
    loaded = read_model(config.checkpoint, process.device)
    loader = split_loader(loaded, config.data, config.split, process)
    # before the frames are evaluated: an hour's work must not end in an error of the arguments
    other = None
    if config.against:
        other = OtherFrames.read(config.against, frame_keys(loader.shard_set, range(len(loader.shard_set))))
    precision = Precision.choose(config.precision, process.device)
    evaluation = evaluate_split(loaded, loader, process, precision, examples=config.examples)
    if evaluation is None:
        return
    metrics = evaluation.metrics
    if other:
        keys = frame_keys(loader.shard_set, evaluation.predictions.index)
        metrics["against"] = compare(evaluation.errors, keys, other)
    with naming(config.output):
        page = write_report(config.output, metrics, evaluation.examples, loaded.run)
        write_per_frame(config.output, config.per_frame, loader.shard_set, evaluation.predictions, evaluation.errors)
    sys.stdout.write(f"{describe(metrics)}\nreport: {page}\n")


if __name__ == "__main__":
    sys.exit(main())
