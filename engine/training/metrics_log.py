"""What a run leaves to read: metrics.jsonl, TensorBoard events, a progress bar."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.cli.progress import note, progress_bar
from engine.training.event_file import EventFile
from engine.training.run_folder import METRICS
from loaders.system.os_errors import naming


class RunLog:
    """Writes one run's log; a log that is off (not the main process) does nothing."""

    def __init__(self, run_dir: Path, *, on: bool, position: int, step: int, total_steps: int) -> None:
        """Open the log at ``position``, where it was at ``step``; what was written after that, before a crash, goes."""
        self._on = on
        if not on:
            return
        self._run_dir = run_dir
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

    def show(self, figures: dict[str, str]) -> None:
        """Put figures beside the progress bar."""
        if self._on:
            self._bar.set_postfix(figures, refresh=False)

    def note(self, text: str) -> None:
        """Write a line above the progress bar."""
        if self._on:
            note(text)

    def close(self) -> None:
        """Flush and close."""
        if self._on:
            self._bar.close()
            self._file.close()
            with naming(self._run_dir):
                self._events.close()
