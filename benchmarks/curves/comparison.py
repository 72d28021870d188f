"""What a training is to reach, how long runs took to reach it, and both ways side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.curves.curve import Curve, Point
from benchmarks.curves.ours import Ours
from benchmarks.curves.reference import Reference
from benchmarks.harness import Measured, Reading, Row, Target, verdicts
from engine.stages import StageName

_RATE: Final = "images/s"
_MISSED: Final = "did not reach it"


@dataclass(frozen=True)
class Goal:
    """A validation error."""

    stages: tuple[StageName, ...]
    """Trained one after the other; the last one is to reach it."""
    error: float
    unit: str

    @property
    def title(self) -> str:
        """What is to be reached, by what."""
        what = self.stages[0] if len(self.stages) == 1 else "all stages"
        return f"{what} to {self.error:g} {self.unit}"

    def candidate(self, way: str) -> str:
        """Return the name of a way to reach it."""
        return f"{self.title}, {way}"


@dataclass(frozen=True)
class Run:
    """All stages, trained with one seed."""

    way: str
    seed: int
    curves: Mapping[StageName, Curve]

    def before(self, goal: Goal) -> float:
        """Return how long the stages before a goal's last one took (seconds)."""
        return sum(self.curves[stage].end.seconds for stage in goal.stages[:-1])

    def reading(self, goal: Goal) -> Reading:
        """Return how long it took to reach a goal, as a rate (seconds): at least, if it did not."""
        *earlier, last = (self.curves[stage] for stage in goal.stages)
        reached = last.reached(goal.error)
        stop = reached or last.points[-1]
        whole = [*((curve.points[0], curve.end) for curve in earlier), (last.points[0], last.points[-1])]
        figures = {
            "images": stop.images + sum(curve.end.images for curve in earlier),
            # without the start: processes, imports, networks
            _RATE: sum(b.images - a.images for a, b in whole) / sum(b.seconds - a.seconds for a, b in whole),
            _MISSED: float(reached is None),
        }
        return Reading(self.before(goal) + stop.seconds, 1.0, figures)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Run:
        """Return the run that `values` were made of."""
        curves = {}
        for stage, curve in values["curves"].items():
            points = [Point(*point) for point in zip(curve["seconds"], curve["images"], curve["error"], strict=True)]
            curves[stage] = Curve(points, next(point for point in points if point.seconds == curve["end_seconds"]))
        return cls(values["way"], values["seed"], curves)

    def values(self) -> dict[str, Any]:
        """Return the curves as JSON can hold them."""
        curves = {
            stage: {
                "seconds": [round(point.seconds, 2) for point in curve.points],
                "images": [point.images for point in curve.points],
                "error": [round(point.error, 3) for point in curve.points],
                "end_seconds": round(curve.end.seconds, 2),
            }
            for stage, curve in self.curves.items()
        }
        return {"way": self.way, "seed": self.seed, "curves": curves}


def compare(goal: Goal, measured: Sequence[Measured], sharding: float, seed: int, *, at_least: float) -> list[Row]:
    """Return the reference way's seconds over ours, the same with sharding, and beside them our images/s over its.

    Args:
        goal: what was to be reached.
        measured: both ways' seconds to reach it, and others.
        sharding: what it took to shard the frames (seconds).
        seed: of the bootstrap.
        at_least: what the first ratio is to reach.
    """
    named = {one.candidate.name: one for one in measured}
    ours, reference = (named[goal.candidate(way)] for way in (Ours.name, Reference.name))
    sharded = dataclasses.replace(ours, rates=[seconds + sharding for seconds in ours.rates])
    our_rate, its_rate = (dataclasses.replace(one, rates=one.figures[_RATE]) for one in (ours, reference))

    def row(what: str, of: Measured, over: Measured, least: float | None = None) -> Row:
        target = Target(f"{goal.title}: {what}", [of.candidate.name], [over.candidate.name], at_least=least)
        return verdicts([target], [of, over], seed)[0]

    of_seconds = [
        row("seconds of the reference way over ours", reference, ours, at_least),
        row("the same, with sharding", reference, sharded),
    ]
    return [
        *(_as_far_as_reached(one, ours, reference) for one in of_seconds),
        row("images/s, over the reference way", our_rate, its_rate),
    ]


def _as_far_as_reached(row: Row, ours: Measured, reference: Measured) -> Row:
    """Return what a ratio of seconds says where a run did not reach the error."""
    missed = [f"{sum(one.figures[_MISSED]):.0f} of {len(one.rates)}" for one in (ours, reference)]
    if any(ours.figures[_MISSED]):
        least = row.at_least
        verdict = "missed" if least else "not measured"
        return Row(row.what, at_least=least, verdict=verdict, reason=f"ours did not reach it in {missed[0]} runs")
    if not any(reference.figures[_MISSED]):
        return row
    ratios = [math.inf if absent else 0.0 for absent in reference.figures[_MISSED]]
    lowest = [rate / other for rate, other in zip(reference.rates, ours.rates, strict=True)]
    reason = f"the reference way did not reach it in {missed[1]} runs, whose ratios are at least so high"
    # where the middle one is among them, the median is at least what it is here
    unknown = median(map(max, ratios, lowest)) != median(lowest)
    if row.verdict == "missed" and unknown:
        return dataclasses.replace(row, verdict="not measured", reason=f"at least: {reason}; give it longer --limits")
    return dataclasses.replace(row, reason=f"at least: {reason}" if unknown else reason)
