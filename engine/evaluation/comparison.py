"""Two networks, frame by frame: the second one's errors come from the table of its own evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.intervals import group_intervals, group_means
from engine.evaluation.metrics import FrameErrors
from engine.evaluation.per_frame import find_table, read_columns
from loaders.errors import InputError
from loaders.system.os_errors import naming

COMPARED: Final = ("mpjpe_mm", "camera_mpjpe_mm", "pa_mpjpe_mm", "error_2d_frame_px")
"""Metrics that are compared, as far as both networks have them."""


@dataclass(frozen=True)
class OtherFrames:
    """Errors of another network's evaluation."""

    table: Path
    rows: dict[str, int]
    """A frame's key -> its row."""
    metrics: dict[str, NDArray[np.float64]]
    """Name -> a value for each row."""

    @classmethod
    def read(cls, path: Path, keys: Sequence[str]) -> OtherFrames:
        """Read a table that `evaluate` wrote.

        Args:
            path: the table, the folder that holds it, or the metrics.json beside it.
            keys: of our frames.

        Raises:
            InputError: there is no such table, it cannot be read, or it has none of our frames.
        """
        with naming(path):
            table = find_table(path)
        found, metrics = read_columns(table, COMPARED)
        rows = {key: row for row, key in enumerate(found)}
        if not metrics:
            raise InputError(f"{table} has none of the columns {', '.join(COMPARED)}: evaluate that checkpoint again")
        if rows.keys().isdisjoint(keys):
            raise InputError(
                f"{table} and this evaluation have no frame in common: evaluate both checkpoints on the same split of "
                "the same shard set"
            )
        return cls(table, rows, metrics)


def compare(errors: FrameErrors, keys: Sequence[str], other: OtherFrames) -> dict[str, Any]:
    """Return what metrics.json holds under "against": paired differences, ours minus the other's.

    Args:
        errors: of our frames.
        keys: of our frames, in the same order.
        other: the other network's.

    Raises:
        InputError: the two networks have no metric in common.
    """
    row = np.array([other.rows.get(key, -1) for key in keys])
    common = row >= 0
    differences = {
        name: errors.metrics[name][common] - values[row[common]]
        for name, values in other.metrics.items()
        if name in errors.metrics
    }
    differences = {name: values for name, values in differences.items() if np.isfinite(values).any()}
    if not differences:
        raise InputError(f"{other.table} has no metric in common with this checkpoint: compare poses with poses")
    groups = [group for group, chosen in zip(errors.groups, common, strict=True) if chosen]
    recordings = errors.recordings[common]
    return {
        "table": str(other.table),
        "frames": int(common.sum()),
        "recordings": len(np.unique(recordings)),
        "frames_only_here": int((~common).sum()),
        "frames_only_there": len(other.rows) - int(common.sum()),
        "difference": group_means(differences, groups, errors.group_names),
        "ci95": group_intervals(differences, groups, errors.group_names, recordings),
    }
