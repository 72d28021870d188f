"""MLflow; MLFLOW_TRACKING_URI says where, without it a database in the present folder and files beside the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import mlflow
import numpy as np
from mlflow.entities import Metric, Param
from numpy.typing import NDArray

from engine.tracking.sink import TrackedRun

_PARAMS_PER_CALL: Final = 100
"""How many parameters MLflow takes at once."""


class MlflowRun:
    """A run of MLflow; a `Tracker`."""

    def __init__(self, run: TrackedRun) -> None:
        """Begin or go on. Raises mlflow's errors, such as that of a server that does not answer."""
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = mlflow.MlflowClient()
        if run.id is None:
            experiment = self._client.get_experiment_by_name(run.project)
            experiment_id = experiment.experiment_id if experiment else self._new_experiment(run)
            self.id: str = self._client.create_run(experiment_id, run_name=run.folder.name).info.run_id
            # they cannot be changed: those of the beginning stay
            params = [Param(key, str(value)) for key, value in run.config.items()]
            for first in range(0, len(params), _PARAMS_PER_CALL):
                self._client.log_batch(self.id, params=params[first : first + _PARAMS_PER_CALL])
        else:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
        self._status = "KILLED"
        self.where = f"{self._client.tracking_uri}, experiment {run.project}, run {self.id}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of one step."""
        now = int(1000 * time.time())
        self._client.log_batch(self.id, [Metric(name, value, now, step) for name, value in values.items()])

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log an image (H, W, 3) of one step."""
        self._client.log_image(self.id, image, key=name, step=step)

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the run's summary.json."""
        self._client.log_dict(self.id, dict(values), "summary.json")
        self._status = "FINISHED"

    def close(self) -> None:
        """End the run; one without a summary was stopped."""
        self._client.set_terminated(self.id, self._status)

    def _new_experiment(self, run: TrackedRun) -> str:
        """Return a new experiment; a server knows where its files go, else they would go where Python was started."""
        has_server = urlsplit(self._client.tracking_uri).scheme in {"http", "https", "databricks"}
        files = None if has_server else (run.folder.absolute().parent / "mlruns").as_uri()
        experiment_id: str = self._client.create_experiment(run.project, artifact_location=files)
        return experiment_id
