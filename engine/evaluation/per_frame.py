"""One row per frame, for those who look for themselves: CSV, or Parquet with pyarrow."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final, Literal

from engine.evaluation.metrics import FrameErrors
from engine.evaluation.predictions import Predictions
from loaders import ShardSet
from loaders.errors import InputError
from models.skeleton import HEATMAP_JOINTS, JOINTS

PerFrameFormat = Literal["csv", "parquet"]
_DECIMALS: Final = 4


def check_installed(format: PerFrameFormat | None) -> None:
    """Raise InputError if a format needs a library that is not installed."""
    if format == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401, PLC0415
        except ImportError:
            raise InputError("per_frame parquet needs pyarrow: pip install pyarrow, or take --per-frame csv") from None


def write_per_frame(
    folder: Path, format: PerFrameFormat, shard_set: ShardSet, predictions: Predictions, errors: FrameErrors
) -> None:
    """Write per_frame.csv or per_frame.parquet into ``folder``."""
    path = folder / f"per_frame.{format}"
    columns = _columns(shard_set, predictions, errors)
    if format == "parquet":
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _columns(shard_set: ShardSet, predictions: Predictions, errors: FrameErrors) -> dict[str, Any]:
    """Return name -> n values: what names each frame, each metric, and each joint's error."""
    manifest = shard_set.manifest
    subject, environment, frame, action = predictions.meta.T
    columns: dict[str, Any] = {
        "key": [shard_set.key(int(index)) for index in predictions.index],
        "subject": [manifest.subjects[number] for number in subject],
        "environment": [manifest.environments[number] for number in environment],
        "frame": frame,
        "action": [manifest.actions[number] for number in action],
        "group": [group or "" for group in errors.groups],
    }
    numbers = errors.metrics()
    for unit, values, joints in (("mm", errors.pose, range(len(JOINTS))), ("px", errors.pixels, HEATMAP_JOINTS)):
        if values is not None:
            numbers |= {f"error_{unit}_{JOINTS[j]}": column for j, column in zip(joints, values.T, strict=True)}
    return columns | {name: values.round(_DECIMALS) for name, values in numbers.items()}
