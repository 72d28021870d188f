"""trackio: a database on this machine, or what TRACKIO_SERVER_URL and TRACKIO_SPACE_ID name."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import trackio
from numpy.typing import NDArray

from engine.tracking.sink import TrackedRun


class TrackioRun:
    """A run of trackio; a `Tracker`."""

    def __init__(self, run: TrackedRun) -> None:
        """Begin or go on."""
        # trackio goes on with the newest run of a name, which need not be this one
        self.id = run.id or f"{run.folder.name}-{secrets.token_hex(3)}"
        with _quiet():
            self._run = trackio.init(
                project=run.project, name=self.id, config=dict(run.config), resume="allow", embed=False
            )
        self.where = f"trackio show --project {run.project}, run {self.id}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of one step."""
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log an image (H, W, 3) of one step."""
        self._run.log({name: trackio.Image(image)}, step=step)

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the summary as text."""
        self._run.log({"summary": trackio.Markdown(f"```json\n{json.dumps(values, indent=1)}\n```")}, step=step)

    def close(self) -> None:
        """Send what is left."""
        with _quiet():
            trackio.finish()


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Keep what trackio prints, which no setting of its own does, out of the progress."""
    return contextlib.redirect_stdout(io.StringIO())
