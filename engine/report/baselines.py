"""Results that others published, and when they may stand beside ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.evaluation.intervals import ALL, GROUP_MEAN
from models.xr_egopose import ACTION_GROUPS, NAME

TEST_FRAMES: Final = 115_621
"""Frames of the released test set."""
UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class Published:
    """A result on the released test set."""

    method: str
    year: str
    protocol: str
    """What poses are relative to when they are compared; `UNKNOWN` if the source does not say."""
    input_frames: str
    """Frames that a pose is predicted from; `UNKNOWN` if we do not know."""
    source: str
    """Where the numbers stand."""
    mpjpe_mm: dict[str, float]
    """All, the nine groups, and their mean, which is worked out here."""

    @property
    def name(self) -> str:
        """Method and year."""
        return f"{self.method} ({self.year})"


def published() -> list[Published]:
    """Return all of published.csv, the best first."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        rows = [_published(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: row.mpjpe_mm[ALL])


def on_released_test_set(evaluation: Mapping[str, Any]) -> bool:
    """Whether an evaluation may be compared with `published`: of the dataset's test split, with no generated frame."""
    return evaluation["dataset"] == NAME and evaluation["split"] == "test" and not evaluation["generated"]


def comparability(metrics: Mapping[str, Any]) -> str:
    """Say of which frames the published results beside these metrics are, or why there are none."""
    evaluation = metrics["evaluation"]
    if not on_released_test_set(evaluation):
        frames = "generated" if evaluation["generated"] else f"of the {evaluation['split']} split"
        if evaluation["dataset"] != NAME:
            frames = f"of {evaluation['dataset']}"
        return f"No published results are shown: they are of {NAME}'s test set, and these frames are {frames}."
    said = f"Published results are of {NAME}'s released test set; compare within one protocol."
    if metrics["frames"] != TEST_FRAMES:
        said += f" It has {TEST_FRAMES:,} frames, this evaluation {metrics['frames']:,}."
    return said


def sources() -> str:
    """Say where the published results stand."""
    by_source: dict[str, list[str]] = {}
    for row in published():
        by_source.setdefault(row.source, []).append(row.name)
    return "; ".join(f"{', '.join(methods)}: {source}" for source, methods in by_source.items())


def _published(row: dict[str, str]) -> Published:
    by_group = {group: float(row[group]) for group in ACTION_GROUPS}
    return Published(
        method=row["method"],
        year=row["year"],
        protocol=row["protocol"] or UNKNOWN,
        input_frames=row["input_frames"] or UNKNOWN,
        source=row["source"],
        mpjpe_mm={ALL: float(row[ALL]), GROUP_MEAN: sum(by_group.values()) / len(by_group), **by_group},
    )
