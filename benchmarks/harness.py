"""Runs candidates side by side: warm-up, interleaved rounds, one lap of each candidate per round."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.statistics import median_interval, median_ratio, ratio_interval
from engine.cli.command import Command
from engine.cli.progress import progress_bar
from loaders.errors import InputError

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timed:
    """Work whose time is known better than the harness could measure it."""

    items: int
    seconds: float


def beyond_start_up(items: int, short: float, long: float) -> Timed:
    """Return the items that a long run did beyond a short one, in the difference of their times (seconds).

    Of so few items that noise hides the difference, the time of both runs counts: too slow a rate, not a negative one.
    """
    return Timed(items, max(0.0, long - short))


@dataclass(frozen=True)
class Session:
    """A candidate at work."""

    step: Callable[[], int | Timed]
    """Do one unit of work and say how many items it was."""
    wait: Callable[[], None] = lambda: None
    """Return when all work begun is done; for devices that run behind."""
    figures: Callable[[], Mapping[str, float]] = dict
    """Return further numbers since the last call; asked before and after each lap."""
    start: int = 1
    """Steps that belong to its start, which may take longer than the warm-up should, or, where work was done ahead,
    shorter than steps do later (steps)."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the work."""

    name: str
    open: Callable[[], contextlib.AbstractContextManager[Session]]
    """Start the way; opened anew for each lap, so that nothing of it runs during the others'."""
    group: str = ""
    """Candidates of a group do the same work and share a panel of the image."""
    unit: str = "images/s"
    needs: Sequence[str] = ()
    """Modules that must be installed."""
    absent: str = ""
    """Reason why it cannot run here; empty if it can."""
    note: str = ""
    ours: bool = False
    """Whether it is this project's; colored in the image."""

    def reason_absent(self) -> str:
        """Return why it cannot run here; empty if it can."""
        return self.absent or not_installed(*self.needs)


@dataclass(frozen=True)
class Target:
    """A comparison, and what it should reach."""

    what: str
    of: Sequence[str] = ()
    """Candidates; the fastest of those measured counts."""
    over: Sequence[str] = ()
    """What they are held against, the fastest again; none: the rate itself is the value."""
    at_least: float | None = None
    """None only shows the value."""
    unless: str = ""
    """Reason why this run cannot judge it; empty if it can."""
    in_turn: bool = False
    """On both sides not the fastest counts, but all of them, as parts of one work that take turns with every item."""


@dataclass(frozen=True)
class Measured:
    """The laps of one candidate."""

    candidate: Candidate
    rates: list[float] = field(default_factory=list)
    """Items per second, one per round."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    absent: str = ""

    @property
    def median(self) -> float:
        """Median rate; nan if absent."""
        return float(np.median(self.rates)) if self.rates else math.nan


@dataclass(frozen=True)
class Row:
    """A target and what was found."""

    what: str
    of: str
    over: str
    value: float | None
    """Ratio, or rate where nothing is held against; None if not measured."""
    low: float | None
    high: float | None
    target: float | None
    verdict: str
    """met, missed, not measured, or empty where there is no target."""
    reason: str = ""
    at_most: float | None = None
    """What it should not exceed, where that is the target."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkFlags(Command):
    """Flags of every benchmark."""

    rounds: int = 5
    """Rounds; each candidate has one lap in each (rounds)."""
    lap: float = 1.0
    """Least time of a lap (seconds)."""
    warmup: float = 0.5
    """Least time before each lap that is not measured (seconds)."""
    seed: int = 0
    """Seed of the bootstrap and of the data's order (integer)."""
    output: Path = RESULTS
    """Folder for the result: json, md and png."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(self, rounds=1, lap=0, warmup=0, seed=0)


def at_least(flags: Command, **least: int) -> None:
    """Check that flags are not below the least they can be. Raises InputError that names the first that is."""
    for name, number in least.items():
        if (value := getattr(flags, name)) < number:
            raise InputError(f"--{name.replace('_', '-')} is {value}: give at least {number}")


def measure(
    candidates: Sequence[Candidate],
    *,
    rounds: int,
    lap: float,
    warmup: float,
    steps: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Return the laps of all candidates.

    Args:
        candidates: ways to compare.
        rounds: laps of each.
        lap: least time of a lap (seconds).
        warmup: least time before each lap, after its start (seconds); 0 measures the start as well.
        steps: least steps of a lap.
        clock: where time comes from (seconds).
    """
    measured = [Measured(candidate, absent=candidate.reason_absent()) for candidate in candidates]
    present = [one for one in measured if not one.absent]
    with progress_bar(total=rounds * len(present), unit="lap") as bar:
        for number in range(rounds):
            # each round begins with another candidate, so that none always follows the same
            first = number % max(1, len(present))
            for one in present[first:] + present[:first]:
                bar.set_description(one.candidate.name)
                rate, figures = _run_lap(one.candidate, lap, warmup, steps, clock)
                one.rates.append(rate)
                for name, value in figures.items():
                    one.figures.setdefault(name, []).append(value)
                bar.update()
    return measured


def _run_lap(
    candidate: Candidate, lap: float, warmup: float, steps: int, clock: Callable[[], float]
) -> tuple[float, Mapping[str, float]]:
    with candidate.open() as session:
        if warmup > 0:
            for _ in range(session.start):
                session.step()
            _take_steps(session, warmup, 1, clock)
        session.figures()
        items, seconds = _take_steps(session, lap, steps, clock)
        return items / seconds, session.figures()


def _take_steps(session: Session, least: float, steps: int, clock: Callable[[], float]) -> tuple[int, float]:
    """Return items and seconds of so many steps, or more until the time has passed."""
    items, known, taken = 0, 0.0, 0
    start = clock()
    while taken < steps or clock() - start < least:
        done = session.step()
        items += done.items if isinstance(done, Timed) else done
        known += done.seconds if isinstance(done, Timed) else 0.0
        taken += 1
    session.wait()
    return items, known or clock() - start


def judge(targets: Sequence[Target], measured: Sequence[Measured], seed: int) -> list[Row]:
    """Hold what was measured against the targets."""
    return [_judge(target, {one.candidate.name: one for one in measured}, seed) for target in targets]


def _judge(target: Target, measured: Mapping[str, Measured], seed: int) -> Row:
    choose = _in_turn if target.in_turn else _fastest
    of, over = (choose([measured[name] for name in names]) for names in (target.of, target.over))
    if of is None or (target.over and over is None):
        missing = [f"{name}: {measured[name].absent}" for name in (*target.of, *target.over) if measured[name].absent]
        return _unmeasured(target, target.unless or "; ".join(missing))
    if over is None:
        value, (low, high) = float(np.median(of.rates)), median_interval(of.rates, seed)
    else:
        value = median_ratio(of.rates, over.rates)
        low, high = ratio_interval(of.rates, over.rates, seed)
    verdict = "" if target.at_least is None else "met" if value >= target.at_least else "missed"
    if target.unless:
        verdict = "not measured"
    noisy = target.at_least is not None and low < target.at_least <= high
    reason = target.unless or ("the interval holds the target: measure longer" if noisy else "")
    return Row(target.what, of.name, over.name if over else "", value, low, high, target.at_least, verdict, reason)


def _unmeasured(target: Target, reason: str) -> Row:
    return Row(target.what, "", "", None, None, None, target.at_least, "not measured", reason)


@dataclass(frozen=True)
class _Side:
    """What stands on one side of a comparison."""

    name: str
    rates: Sequence[float]


def _fastest(candidates: Sequence[Measured]) -> _Side | None:
    present = [one for one in candidates if one.rates]
    if not present:
        return None
    fastest = max(present, key=lambda one: one.median)
    return _Side(fastest.candidate.name, fastest.rates)


def _in_turn(parts: Sequence[Measured]) -> _Side | None:
    """Return items per second through all parts, one after the other: none if a part was not measured."""
    if not parts or not all(one.rates for one in parts):
        return None
    rounds = zip(*(one.rates for one in parts), strict=True)
    rates = [1 / sum(1 / rate for rate in rates) for rates in rounds]
    return _Side(", then ".join(one.candidate.name for one in parts), rates)


def not_installed(*modules: str) -> str:
    """Return which modules are absent, as a reason; empty if none is."""
    missing = [name for name in modules if not _installed(name)]
    return f"{', '.join(missing)} not installed" if missing else ""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is absent
        return False


def plain(value: Any) -> Any:
    """Return a configuration's value as JSON can hold it; of a path, only the last name."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Path) else value
