"""Measures candidates side by side: interleaved repetitions, medians, bootstrap intervals of ratios, targets."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from engine.cli.command import Command
from engine.cli.progress import progress_bar
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
_RESAMPLES: Final = 10_000
_COVERAGE: Final = 0.95


@dataclass(frozen=True)
class Length:
    """How long a repetition is."""

    seconds: float = 0.0
    """Least time that is measured (seconds)."""
    warmup: float = 0.0
    """Least time before it that is not measured (seconds); 0 measures the start as well."""
    steps: int = 1
    """Least steps that are measured."""
    clock: Callable[[], float] = time.perf_counter
    """Where time comes from (seconds)."""


@dataclass(frozen=True)
class Reading:
    """What one repetition found."""

    items: float
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, shown beside the rate."""


@dataclass(frozen=True)
class Steps:
    """Work that is done step by step, such as taking batches from a loader."""

    step: Callable[[], int]
    """Do one step and return its number of items."""
    synchronize: Callable[[], None] | None = None
    """Wait for a device that runs behind the host; None if there is none."""
    start: int = 1
    """Steps that belong to the start, because they take longer, or shorter, than those that follow (steps)."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the work."""

    name: str
    run: Callable[[Length], Reading]
    """Do one repetition. It starts and stops everything it needs, so that nothing of it runs during the others'."""
    group: str = ""
    """Candidates of a group do the same work."""
    unit: str = "images/s"
    needs: Sequence[str] = ()
    """Modules that must be installed."""
    absent: str = ""
    """Reason why it cannot run here; empty if it can."""
    note: str = ""

    def reason_absent(self) -> str:
        """Return why it cannot run here; empty if it can."""
        return self.absent or not_installed(*self.needs)


@dataclass(frozen=True)
class Target:
    """A comparison of candidates, and what it should reach."""

    what: str
    of: Sequence[str]
    """Names of candidates; the one with the highest median counts."""
    over: Sequence[str] = ()
    """Names of the candidates that they are held against, the highest again; none: the rate itself is the value."""
    at_least: float | None = None
    at_most: float | None = None
    unless: str = ""
    """Reason why this run cannot measure it; empty if it can."""
    in_turn: bool = False
    """On both sides all candidates count: an item goes through each of them, one after the other."""


@dataclass(frozen=True)
class Measured:
    """The repetitions of one candidate."""

    candidate: Candidate
    rates: list[float] = field(default_factory=list)
    """Items per second, one per repetition; empty if it is absent."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    absent: str = ""


@dataclass(frozen=True)
class Row:
    """A target beside what was measured."""

    what: str
    of: str = ""
    over: str = ""
    value: float | None = None
    """Ratio, or rate where nothing is held against; None if it was not measured."""
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    verdict: str = "not measured"
    """met, missed, not measured, or empty where there is no target."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BenchmarkFlags(Command):
    """Flags of every benchmark."""

    repetitions: int = 5
    """How often each candidate is measured, in turn with the others (repetitions)."""
    seed: int = 0
    """Seed of the bootstrap and of the data (integer)."""
    output: Path = RESULTS
    """Folder for the result: JSON and Markdown."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", repetitions=Range(1), seed=Range(0))


def measure(candidates: Sequence[Candidate], length: Length, repetitions: int) -> list[Measured]:
    """Measure all candidates so many times. Absent ones stay without rates."""
    measured = [Measured(candidate, absent=candidate.reason_absent()) for candidate in candidates]
    present = [one for one in measured if not one.absent]
    with progress_bar(total=repetitions * len(present), unit="repetition") as bar:
        for number in range(repetitions):
            # each time another candidate comes first, so that none always follows the same one
            first = number % max(1, len(present))
            for one in present[first:] + present[:first]:
                bar.set_description(one.candidate.name)
                reading = one.candidate.run(length)
                one.rates.append(reading.items / reading.seconds)
                for name, value in reading.figures.items():
                    one.figures.setdefault(name, []).append(value)
                bar.update()
    return measured


def run_steps(start: Callable[[], contextlib.AbstractContextManager[Steps]], length: Length) -> Reading:
    """Do one repetition of work that is done step by step: warm it up, measure it, stop it."""
    with start() as work:
        if length.warmup > 0:
            for _ in range(work.start):
                work.step()
            end = length.clock() + length.warmup
            while length.clock() < end:
                work.step()
        if work.synchronize:
            work.synchronize()
        items, steps, busy, began = 0, 0, time.process_time(), length.clock()
        while steps < length.steps or length.clock() - began < length.seconds:
            items += work.step()
            steps += 1
        if not work.synchronize:
            return Reading(items, length.clock() - began)
        work.synchronize()
        seconds = length.clock() - began
        share = (time.process_time() - busy) / (seconds * available_cores())
        return Reading(items, seconds, {"host CPU share": share})


def verdicts(targets: Sequence[Target], measured: Sequence[Measured], seed: int) -> list[Row]:
    """Hold what was measured against the targets."""
    return [_verdict(target, {one.candidate.name: one for one in measured}, seed) for target in targets]


def _verdict(target: Target, measured: Mapping[str, Measured], seed: int) -> Row:
    choose = _in_turn if target.in_turn else _highest
    of, over = (choose([measured[name] for name in names]) for names in (target.of, target.over))
    row = Row(target.what, at_least=target.at_least, at_most=target.at_most, reason=target.unless)
    if of is None or (target.over and over is None):
        absent = [f"{name}: {measured[name].absent}" for name in (*target.of, *target.over) if measured[name].absent]
        return dataclasses.replace(row, reason=target.unless or "; ".join(absent))
    values = ratios(of[1], over[1]) if over else of[1]
    low, high = interval(values, seed)
    row = dataclasses.replace(row, of=of[0], over=over[0] if over else "", value=median(values), low=low, high=high)
    return row if target.unless else _with_verdict(row)


def _with_verdict(row: Row) -> Row:
    if row.value is None or row.low is None or row.high is None:
        return row
    limits = [limit for limit in (row.at_least, row.at_most) if limit is not None]
    if not limits:
        return dataclasses.replace(row, verdict="")
    met = (row.at_least is None or row.value >= row.at_least) and (row.at_most is None or row.value <= row.at_most)
    noisy = any(row.low < limit <= row.high for limit in limits)
    reason = "the interval holds the target: measure longer" if noisy else ""
    return dataclasses.replace(row, verdict="met" if met else "missed", reason=reason)


def _highest(candidates: Sequence[Measured]) -> tuple[str, list[float]] | None:
    """Return name and rates of the candidate with the highest median; None if none was measured."""
    present = [one for one in candidates if one.rates]
    highest = max(present, key=lambda one: median(one.rates), default=None)
    return None if highest is None else (highest.candidate.name, highest.rates)


def _in_turn(parts: Sequence[Measured]) -> tuple[str, list[float]] | None:
    """Return names and rate of items that go through all parts; None if a part was not measured."""
    if not parts or not all(one.rates for one in parts):
        return None
    return ", then ".join(one.candidate.name for one in parts), rates_in_turn([one.rates for one in parts])


def ratios(rates: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Return the ratio of each repetition: a machine that slows down for a while slows both."""
    return [rate / other for rate, other in zip(rates, baseline, strict=True)]


def rates_in_turn(parts: Sequence[Sequence[float]]) -> list[float]:
    """Return the rates of items that go through all parts one after the other, by repetition."""
    return [1 / sum(1 / rate for rate in rates) for rates in zip(*parts, strict=True)]


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    random = Random(seed)
    medians = sorted(median(random.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    outside = round(_RESAMPLES * (1 - _COVERAGE) / 2)
    return medians[outside], medians[-outside - 1]


def not_installed(*modules: str) -> str:
    """Return which modules are absent, as a reason; empty if none is."""
    missing = [name for name in modules if not _installed(name)]
    return f"{', '.join(missing)} not installed" if missing else ""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is absent
        return False
