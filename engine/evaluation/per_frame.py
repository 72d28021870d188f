"""One row per frame, for those who look for themselves: CSV, or Parquet with pyarrow."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.frame_errors import FrameErrors
from loaders import ShardSet
from loaders.errors import InputError
from models.skeleton import HEATMAP_JOINTS, JOINTS

Form = Literal["csv", "parquet"]
Columns = dict[str, Any]
"""Name -> n values."""

_DECIMALS: Final = 4


def check_form(form: Form | None) -> None:
    """Raise InputError if a form cannot be written here."""
    if form == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401, PLC0415
        except ImportError:
            raise InputError(
                "per_frame parquet needs pyarrow: pip install 'egopose-engine[parquet]', or take --per-frame csv"
            ) from None


def frame_columns(shard_set: ShardSet, frames: NDArray[np.int64], errors: FrameErrors) -> Columns:
    """Return a column for what names each of the n frames, for each measure, and for each joint.

    Args:
        shard_set: of the split.
        frames: (n,), positions in the split.
        errors: of these frames.
    """
    manifest = shard_set.manifest
    subject, environment, frame, action = shard_set.labels()[1][frames].T
    columns: Columns = {
        "key": [shard_set.key(int(index)) for index in frames],
        "subject": [manifest.subjects[number] for number in subject],
        "environment": [manifest.environments[number] for number in environment],
        "frame": frame,
        "action": [manifest.actions[number] for number in action],
        "group": [group or "" for group in errors.groups],
    }
    numbers = errors.measures()
    for form, values, joints in (
        ("error_mm_{}", errors.pose, range(len(JOINTS))),
        ("error_px_{}", errors.pixels, HEATMAP_JOINTS),
    ):
        if values is not None:
            numbers |= {form.format(JOINTS[j]): column for j, column in zip(joints, values.T, strict=True)}
    return columns | {name: values.round(_DECIMALS) for name, values in numbers.items()}


def write_per_frame(folder: Path, form: Form, columns: Columns) -> Path:
    """Write per_frame.csv or per_frame.parquet into ``folder``; return its path."""
    path = folder / f"per_frame.{form}"
    if form == "parquet":
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path
