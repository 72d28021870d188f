"""One row per frame, for those who look for themselves or compare: CSV, or Parquet with pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.metrics import FrameErrors
from engine.evaluation.predictions import Predictions
from loaders import ShardSet
from loaders.errors import InputError
from loaders.system.os_errors import naming

PerFrameFormat = Literal["csv", "parquet"]
_DECIMALS: Final = 4
_NAMES: Final = tuple(f"per_frame.{format}" for format in get_args(PerFrameFormat))
_KEY: Final = "key"


def check_installed(format: PerFrameFormat | None) -> None:
    """Raise InputError if a format needs a library that is not installed."""
    if format == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401, PLC0415
        except ImportError:
            raise InputError("per_frame parquet needs pyarrow: pip install pyarrow, or take --per-frame csv") from None


def write_per_frame(
    folder: Path, format: PerFrameFormat | None, shard_set: ShardSet, predictions: Predictions, errors: FrameErrors
) -> None:
    """Write per_frame.csv or per_frame.parquet into ``folder``; one that another evaluation left there goes."""
    for name in _NAMES:
        (folder / name).unlink(missing_ok=True)
    if format is None:
        return
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


def find_table(path: Path) -> Path:
    """Return the table of an evaluation, given it, its folder, or the metrics.json beside it.

    Raises InputError if there is none.
    """
    if path.suffix in (".csv", ".parquet") and path.is_file():
        return path
    folder = path.parent if path.name == "metrics.json" else path
    tables = [folder / name for name in _NAMES if (folder / name).is_file()]
    if not tables:
        raise InputError(
            f"{path} is no table of frames and has none beside or in it: evaluate that checkpoint with "
            f"--per-frame csv, and give its folder or its {_NAMES[0]}"
        )
    return tables[0]


def read_columns(table: Path, names: Sequence[str]) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Return the keys of a table's frames, and those of the named columns that it has.

    Raises InputError if it cannot be read.
    """
    remedy = "write it again with evaluate --per-frame"
    with naming(table):
        try:
            columns = _read_parquet(table, names) if table.suffix == ".parquet" else _read_csv(table, names)
            keys = [str(key) for key in columns.pop(_KEY)]
            values = {name: np.array(column, np.float64) for name, column in columns.items()}
        except KeyError:
            raise InputError(f"{table} has no column {_KEY}: {remedy}") from None
        except (ValueError, TypeError, csv.Error) as error:  # pyarrow's are ValueErrors as well
            raise InputError(f"{table} is damaged ({error}): {remedy}") from None
    if len(set(keys)) < len(keys):
        raise InputError(f"{table} has frames twice: {remedy}")
    return keys, values


def _read_csv(table: Path, names: Sequence[str]) -> dict[str, Sequence[Any]]:
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        titles = next(reader, [])
        wanted = [titles.index(name) for name in (_KEY, *names) if name in titles]
        rows = []
        for row in reader:
            if len(row) != len(titles):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, not {len(titles)}")
            rows.append([row[i] for i in wanted])
    return {titles[i]: [row[j] for row in rows] for j, i in enumerate(wanted)}


def _read_parquet(table: Path, names: Sequence[str]) -> dict[str, Sequence[Any]]:
    check_installed("parquet")
    import pyarrow.parquet  # noqa: PLC0415

    file = pyarrow.parquet.ParquetFile(table)
    wanted = [name for name in (_KEY, *names) if name in file.schema_arrow.names]
    columns: dict[str, Sequence[Any]] = file.read(columns=wanted).to_pydict()
    return columns


def _columns(shard_set: ShardSet, predictions: Predictions, errors: FrameErrors) -> dict[str, Any]:
    """Return name -> n values: what names each frame, each metric, and each joint's error; NaN where there is none."""
    manifest = shard_set.manifest
    subject, environment, frame, action = predictions.meta.T
    columns: dict[str, Any] = {
        _KEY: frame_keys(shard_set, predictions.index),
        "subject": [manifest.subjects[number] for number in subject],
        "environment": [manifest.environments[number] for number in environment],
        "frame": frame,
        "action": [manifest.actions[number] for number in action],
        "group": [group or "" for group in errors.groups],
    }
    numbers = dict(errors.metrics)
    for unit, values, joints in (
        ("mm", errors.pose, errors.skeleton.joints),
        ("px", errors.pixels, errors.skeleton.heatmap_names),
    ):
        if values is not None:
            numbers |= {f"error_{unit}_{joint}": column for joint, column in zip(joints, values.T, strict=True)}
    return columns | {name: values.round(_DECIMALS) for name, values in numbers.items()}


def frame_keys(shard_set: ShardSet, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Return the keys of frames of a split."""
    return [shard_set.key(int(index)) for index in indices]
