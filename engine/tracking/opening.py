"""Which trackers a run has, and how they are opened."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from engine.tracking.background import Background, in_one_line
from engine.tracking.sink import Sink, TrackedRun, Tracker
from loaders.errors import InputError, printable
from loaders.system.files import write_whole
from loaders.system.os_errors import naming

logger = logging.getLogger(__name__)

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]

IDS: Final = "trackers.json"
"""In the run folder: which run of each tracker it is."""


class _Package(NamedTuple):
    """A tracker that is a package of its own, imported under the tracker's name."""

    module: str
    """Ours, which imports it."""
    tracker: str
    """Class of that module."""
    install: str
    remedy: str
    """What may help where it refuses a run."""


_PACKAGES: Final[dict[TrackerName, _Package]] = {
    "wandb": _Package(
        "engine.tracking.wandb_run",
        "WandbRun",
        "pip install wandb",
        "without an account set WANDB_MODE=offline",
    ),
    "mlflow": _Package(
        "engine.tracking.mlflow_run",
        "MlflowRun",
        "pip install mlflow-skinny alembic sqlalchemy",
        "see that MLFLOW_TRACKING_URI is right",
    ),
    "trackio": _Package(
        "engine.tracking.trackio_run",
        "TrackioRun",
        "pip install trackio",
        "see that TRACKIO_SERVER_URL and TRACKIO_SPACE_ID are right",
    ),
}


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Where a run's log goes beside metrics.jsonl."""

    to: tuple[TrackerName, ...] = ("tensorboard",)
    """Trackers, any number of them; wandb, mlflow and trackio must be installed."""
    project: str = "egopose"
    """Project of W&B and trackio, experiment of MLflow."""

    def __post_init__(self) -> None:
        """Check that they are installed."""
        for name in self.trackers:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:  # W&B leaves a folder of its name, which could be imported
                raise InputError(f"log.to {name} needs a package that is missing: {_PACKAGES[name].install}")

    @property
    def trackers(self) -> list[TrackerName]:
        """Those that are packages of their own."""
        return [name for name in dict.fromkeys(self.to) if name in _PACKAGES]


def open_sinks(log: LogConfig, run_dir: Path, config: Mapping[str, Any], *, purge_step: int) -> list[Sink]:
    """Open what a run logs to; where it was resumed, the same run of each tracker.

    Args:
        log: which trackers.
        run_dir: folder of the run.
        config: of the run, dotted keys and plain values.
        purge_step: the first step that may be logged again; TensorBoard forgets what it knows of it and of later ones.

    Raises:
        InputError: a tracker refuses a run that it does not have yet. One that the run went on with before is left out
            with a warning: a server that is away keeps no run from being resumed.
    """
    ids = _read_ids(run_dir / IDS)
    with contextlib.ExitStack() as opened:
        sinks: list[Sink] = []
        if "tensorboard" in log.to:
            from engine.tracking.event_file import EventFile  # noqa: PLC0415 - slow to import, where flags are all

            with naming(run_dir):
                sinks.append(EventFile(run_dir, config, purge_step=purge_step))
            opened.callback(sinks[-1].close)
        for name in log.trackers:
            run = TrackedRun(run_dir, log.project, config, ids.get(name))
            if sink := _open(name, run):
                sinks.append(sink)
                opened.callback(sink.close)
                ids[name] = sink.tracker.id
                logger.info("%s: %s", name, sink.tracker.where)
        if log.trackers:
            write_whole(run_dir / IDS, (json.dumps(ids, indent=1) + "\n").encode())
        opened.pop_all()
    return sinks


def _open(name: TrackerName, run: TrackedRun) -> Background | None:
    package = _PACKAGES[name]

    def open_tracker() -> Tracker:
        tracker: Tracker = getattr(importlib.import_module(package.module), package.tracker)(run)
        return tracker

    try:
        return Background(name, open_tracker)
    except Exception as error:
        problem = printable(in_one_line(error))
        if run.id is None:
            raise InputError(
                f"{name} does not begin a run ({problem}): {package.remedy}, or leave it out of --log.to"
            ) from error
        logger.warning("%s gets nothing of this run from here on: %s", name, problem)
        return None


def _read_ids(path: Path) -> dict[str, str]:
    try:
        ids: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError:
        raise InputError(f"{path} is no JSON: remove it, and the trackers begin runs of their own") from None
    return ids
