"""Weights & Biases; with WANDB_MODE=offline its files stay in the run folder until ``wandb sync``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb
from numpy.typing import NDArray

from engine.tracking.sink import TrackedRun


class WandbRun:
    """A run of W&B; a `Tracker`."""

    def __init__(self, run: TrackedRun) -> None:
        """Begin or go on. Raises wandb's errors, such as one that says that there is no account."""
        self._run = wandb.init(
            project=run.project,
            name=run.folder.name,
            id=run.id,
            resume="allow",
            dir=run.folder,
            config=dict(run.config),
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=True),
        )
        # W&B's own counter only rises: a step that is logged again after a crash would be dropped
        self._run.define_metric("*", step_metric="step")
        self._finished = False
        self.id = self._run.id
        self.where = (
            f"offline; to send it: wandb sync {self._run.settings.sync_dir}" if self._run.offline else self._run.url
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of one step."""
        self._run.log({**values, "step": step})

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log an image (H, W, 3) of one step."""
        self._run.log({name: wandb.Image(image), "step": step})

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Set the run's summary."""
        self._run.summary.update(values)
        self._finished = True

    def close(self) -> None:
        """Send what is left; a run without a summary is marked as failed."""
        self._run.finish(exit_code=0 if self._finished else 1)
