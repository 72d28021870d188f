"""Intervals of means over frames that come in recordings, in which neighbors are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

ALL: Final = "All"
GROUP_MEAN: Final = "Group mean"
"""The mean over the action groups, each of the same weight."""
RESAMPLES: Final = 1000
"""Bootstrap samples that a confidence interval is read from."""
FEWEST_RECORDINGS: Final = 10
"""With fewer recordings an interval is not to be relied on."""

_BLOCK: Final = 2**20
"""Frames' weights that are drawn at a time."""


def group_means(
    values: Mapping[str, Values], groups: Sequence[str | None], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return name -> group -> mean, of `ALL`, the `GROUP_MEAN` and each action group.

    Args:
        values: name -> (n,), NaN for a frame that has no such value; a group without values is absent.
        groups: (n,), the frames' action groups.
        names: of all groups, in order.
    """
    members = {group: np.array([name == group for name in groups]) for group in names}
    means = {}
    for name, column in values.items():
        defined = np.isfinite(column)
        by_group = {
            group: float(column[mask & defined].mean()) for group, mask in members.items() if (mask & defined).any()
        }
        over_groups = {GROUP_MEAN: float(np.mean(list(by_group.values())))} if by_group else {}
        overall = {ALL: float(column[defined].mean())} if defined.any() else {}
        means[name] = overall | over_groups | by_group
    return means


def group_intervals(
    values: Mapping[str, Values],
    groups: Sequence[str | None],
    names: Sequence[str],
    recordings: NDArray[np.int64],
    *,
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Return name -> group -> [low, high], between which 95 % of the resampled means lie, for each of `group_means`.

    Args:
        values: see `group_means`.
        groups: see `group_means`.
        names: see `group_means`.
        recordings: (n,), a number for each recording.
        seed: of the resampling.
    """
    number = {group: code for code, group in enumerate((*names, None))}
    codes = np.array([number[group] for group in groups])
    columns = np.stack(list(values.values()), axis=1)
    sums, counts = resample(columns, recordings, codes, seed=seed)
    overall = _ratio(sums.sum(1), counts.sum(1))
    by_group = _ratio(sums[:, : len(names)], counts[:, : len(names)])
    # a resample may hold no frame of a group
    over_groups = _ratio(np.nansum(by_group, axis=1), np.isfinite(by_group).sum(1))
    means = dict(zip((ALL, GROUP_MEAN, *names), (overall, over_groups, *by_group.swapaxes(0, 1)), strict=False))
    intervals: dict[str, dict[str, list[float]]] = {}
    for column, name in enumerate(values):
        drawn = {group: of_all[np.isfinite(of_all[:, column]), column] for group, of_all in means.items()}
        intervals[name] = {group: percentiles(means) for group, means in drawn.items() if len(means)}
    return intervals


def percentiles(means: Values) -> list[float]:
    """Return [low, high], between which 95 % of ``means`` lie."""
    bounds: list[float] = np.percentile(means, [2.5, 97.5]).tolist()
    return bounds


def resample(
    values: Values,
    recordings: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Values, Values]:
    """Return sums and numbers of values of bootstrap samples, each (resamples, codes, m): their ratios are means.

    Two-stage cluster bootstrap: recordings are drawn with replacement, then of each drawn one as many frames as it has,
    with replacement. Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8; Field and
    Welsh, "Bootstrapping clustered data", JRSS B 2007.

    Args:
        values: (n, m), NaN for a frame that has no such value.
        recordings: (n,), a number for each recording.
        codes: (n,), 0, 1, ...: sums are kept apart by them.
        resamples: bootstrap samples.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    present = np.isfinite(values)
    columns = np.concatenate([np.where(present, values, 0.0), present], axis=1)
    totals = np.zeros((resamples, int(codes.max()) + 1, columns.shape[1]))
    members = [np.flatnonzero(recordings == recording) for recording in np.unique(recordings)]
    drawn = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    for rows, times in zip(members, drawn.T, strict=True):
        block = max(1, _BLOCK // len(rows))
        cells = {code: np.flatnonzero(codes[rows] == code) for code in np.unique(codes[rows])}
        for first in range(0, resamples, block):
            weights = _weights(times[first : first + block], len(rows), random)
            for code, cell in cells.items():
                totals[first : first + block, code] += weights[:, cell] @ columns[rows[cell]]
    sums, counts = np.split(totals, 2, axis=2)
    return sums, counts


def _weights(times: NDArray[np.int64], frames: int, random: np.random.Generator) -> Values:
    """Return (b, frames): how often each frame is drawn, when ``frames`` are drawn ``times`` (b,) times."""
    row = np.repeat(np.arange(len(times)), times * frames)
    chosen = random.integers(frames, size=len(row))
    counts = np.bincount(row * frames + chosen, minlength=len(times) * frames)
    return np.asarray(counts.reshape(-1, frames), np.float64)


def _ratio(sums: Values, counts: NDArray[Any]) -> Values:
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))
