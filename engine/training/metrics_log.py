"""What a run leaves to read: metrics.jsonl, TensorBoard events, summary.json, a progress bar, notes."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from engine.cli.progress import progress_bar
from engine.stages import Stage
from engine.training.run_folder import METRICS, SUMMARY
from engine.training.validation import Validation
from engine.visualization import draw_examples
from loaders.system.files import write_whole
from loaders.system.os_errors import naming

logger = logging.getLogger(__name__)


class RunLog:
    """Writes one run's log; a log that is off (not the main process) does nothing."""

    def __init__(self, run_dir: Path, *, on: bool, position: int, step: int, total_steps: int) -> None:
        """Open the log at ``position``, where it was at ``step``; what was written after that, before a crash, goes."""
        self._on = on
        self._run_dir = run_dir
        self.skipped: set[str] = set()
        """Names of the samples that `note_skipped` was told."""
        if not on:
            return
        path = run_dir / METRICS
        path.touch()
        os.truncate(path, min(position, path.stat().st_size))
        self._file = path.open("ab", buffering=0)
        self._events = EventFile(run_dir, purge_step=step + 1 if position else 0)
        self._bar = progress_bar(total=total_steps, initial=step, unit="step")

    @property
    def position(self) -> int:
        """Length of metrics.jsonl (bytes)."""
        return self._file.tell() if self._on else 0

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write numbers of one step."""
        if not self._on:
            return
        with naming(self._run_dir):
            self._file.write((json.dumps({"step": step, **values}) + "\n").encode())
            for name, value in values.items():
                self._events.scalar(step, name, value)
            self._events.flush()

    def training(self, step: int, values: dict[str, float], speed: dict[str, float]) -> None:
        """Write what the steps since the last entry gave, and how fast they were.

        Args:
            step: the last of them.
            values: "loss" and others.
            speed: "images_per_second" and others, see `Rate.figures`.
        """
        if torch.cuda.is_initialized():
            speed = {**speed, "gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30}
        self.scalars(step, _prefixed("train", values) | _prefixed("speed", speed))
        if self._on:
            figures = {"loss": f"{values['loss']:.4g}", "images/s": f"{speed['images_per_second']:.0f}"}
            self._bar.set_postfix(figures, refresh=False)

    def validation(self, step: int, stage: Stage, result: Validation) -> None:
        """Write the metrics of a validation, and what the network says about some of its images."""
        self.scalars(step, _prefixed("val", result.metrics))
        figures = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items() if "/" not in name)
        self.note(f"step {step}: validation on {result.frames} frames: {figures}")
        if self._on and result.example is not None:
            self.image(step, "val/examples", draw_examples(stage, *result.example))

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write an image (H, W, 3)."""
        if self._on:
            with naming(self._run_dir):
                self._events.image(step, name, image)
                self._events.flush()

    def advance(self) -> None:
        """Move the progress bar by a step."""
        if self._on:
            self._bar.update()

    def note(self, text: str, level: int = logging.INFO) -> None:
        """Tell the user something, above the progress bar."""
        if self._on:
            logger.log(level, text)

    def note_skipped(self, samples: Iterable[str]) -> None:
        """Note those of ``samples``, which could not be decoded, that were not noted before."""
        for sample in samples:
            if sample not in self.skipped:
                self.skipped.add(sample)
                self.note(f"skipped: {sample}")

    def summary(self, values: dict[str, Any]) -> None:
        """Write summary.json."""
        if self._on:
            write_whole(self._run_dir / SUMMARY, (json.dumps(values, indent=1) + "\n").encode())

    def close(self) -> None:
        """Flush and close."""
        if self._on:
            self._bar.close()
            self._file.close()
            with naming(self._run_dir):
                self._events.close()


class EventFile:
    """Writes the newest event file of a folder.

    torch's SummaryWriter names its files after the clock, and TensorBoard reads a folder's files in the order of their
    names: where the clock went back, it would take what a resumed run writes for what came before.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Begin a file; TensorBoard forgets what older files say of ``purge_step`` and later steps."""
        self._file = (folder / _next_name(folder)).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def scalar(self, step: int, name: str, value: float) -> None:
        """Write a number of one step."""
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)])))

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write an image (H, W, 3) of one step."""
        self._write(Event(step=step, summary=summary.image(name, image, dataformats="HWC")))

    def flush(self) -> None:
        """Let TensorBoard see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _prefixed(section: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{section}/{name}": value for name, value in values.items()}


def _next_name(folder: Path) -> str:
    """Return the name that SummaryWriter would give a file, its time later than all that are there."""
    stamps = [re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in folder.iterdir()]
    newest = max([int(time.time()), *(int(stamp[1]) + 1 for stamp in stamps if stamp)])
    return f"events.out.tfevents.{newest:010d}.{socket.gethostname()}.{os.getpid()}.0"
