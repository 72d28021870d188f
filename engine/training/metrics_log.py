"""What a run leaves to read: metrics.jsonl, summary.json, what trackers are told, a progress bar, notes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.cli.progress import progress_bar
from engine.stages import Stage
from engine.tracking.opening import LogConfig, open_sinks
from engine.training.run_folder import METRICS, SUMMARY
from engine.training.validation import Validation
from engine.visualization import draw_examples
from loaders.system.files import write_whole
from loaders.system.os_errors import naming

logger = logging.getLogger(__name__)

_WAIT_SHOWN: Final = 0.05
"""Share of time waiting for data above which the progress line shows it (0 to 1)."""


class RunLog:
    """Writes one run's log; a log that is off (not the main process) does nothing."""

    def __init__(
        self,
        run_dir: Path,
        log: LogConfig,
        config: Mapping[str, Any],
        *,
        on: bool,
        position: int,
        step: int,
        total_steps: int,
    ) -> None:
        """Open the log at ``position``, where it was at ``step``; what was written after that, before a crash, goes.

        Args:
            run_dir: folder of the run.
            log: which trackers there are.
            config: of the run, dotted keys and plain values.
            on: whether this is the main process.
            position: length of metrics.jsonl at ``step`` (bytes).
            step: which the run begins or goes on after.
            total_steps: of the whole run (steps).

        Raises:
            InputError: see `open_sinks`.
        """
        self._on = on
        self._run_dir = run_dir
        self.skipped: set[str] = set()
        """Names of the samples that `note_skipped` was told."""
        if not on:
            return
        self._sinks = open_sinks(log, run_dir, config, purge_step=step + 1 if position else 0)
        path = run_dir / METRICS
        path.touch()
        os.truncate(path, min(position, path.stat().st_size))
        self._file = path.open("ab", buffering=0)
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
            for sink in self._sinks:
                sink.scalars(step, values)

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
            if "mfu" in speed:
                figures["MFU"] = f"{speed['mfu']:.0%}"
            if speed.get("data_wait_share", 0) > _WAIT_SHOWN:
                figures["data"] = f"{speed['data_wait_share']:.0%}"
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
                for sink in self._sinks:
                    sink.image(step, name, image)

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
            with naming(self._run_dir):
                for sink in self._sinks:
                    sink.summary(int(self._bar.n), values)

    def close(self) -> None:
        """Flush and close."""
        if self._on:
            self._bar.close()
            self._file.close()
            with naming(self._run_dir), contextlib.ExitStack() as closing:
                for sink in self._sinks:
                    closing.callback(sink.close)


def _prefixed(section: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{section}/{name}": value for name, value in values.items()}
