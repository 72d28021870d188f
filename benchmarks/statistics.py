"""Medians, ratios and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_RESAMPLES: Final = 10_000
_COVERAGE: Final = 0.95


def median_ratio(rates: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the ratios of laps of the same round."""
    return float(np.median(np.asarray(rates) / np.asarray(baseline)))


def ratio_interval(rates: Sequence[float], baseline: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `median_ratio`.

    Rounds are drawn, not laps: what slows the machine for a while slows both.
    """
    ratios = np.asarray(rates) / np.asarray(baseline)
    drawn = np.random.default_rng(seed).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    return _interval(np.median(ratios[drawn], axis=1))


def median_interval(rates: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    drawn = np.random.default_rng(seed).integers(len(rates), size=(_RESAMPLES, len(rates)))
    return _interval(np.median(np.asarray(rates)[drawn], axis=1))


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Return the least-squares slope of at least three equally spaced values, per step, and its standard error."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    centered = np.asarray(values) - np.mean(values)
    found = float(steps @ centered / (steps @ steps))
    rest = centered - found * steps
    return found, float(np.sqrt(rest @ rest / (len(values) - 2) / (steps @ steps)))


def _interval(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return float(low), float(high)
