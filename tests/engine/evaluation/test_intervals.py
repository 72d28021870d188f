"""Intervals hold the true mean as often as they say."""

import numpy as np
import pytest

from engine.evaluation.intervals import ALL, GROUP_MEAN, group_intervals, group_means, percentiles, resample

RECORDINGS, FRAMES, TRUE_MEAN = 16, 24, 60.0


def draw_recordings(random):
    """Errors of alike neighbors: the recordings differ more than the frames within one."""
    of_recording = random.normal(TRUE_MEAN, 10, (RECORDINGS, 1))
    values = (of_recording + random.normal(0, 10, (RECORDINGS, FRAMES))).reshape(-1, 1)
    return values, np.repeat(np.arange(RECORDINGS), FRAMES)


def interval(values, recordings):
    sums, counts = resample(values, recordings, np.zeros(len(values), np.int64), resamples=400)
    return percentiles((sums / counts)[:, 0, 0])


def test_intervals_cover_the_true_mean_where_those_over_frames_alone_do_not():
    random = np.random.default_rng(0)
    trials, by_recording, by_frame = 300, 0, 0
    for _ in range(trials):
        values, recordings = draw_recordings(random)
        low, high = interval(values, recordings)
        by_recording += low < TRUE_MEAN < high
        # what a bootstrap says that takes frames for independent
        low, high = percentiles(values[random.integers(len(values), size=(400, len(values))), 0].mean(1))
        by_frame += low < TRUE_MEAN < high
    assert 0.88 <= by_recording / trials <= 0.99
    assert by_frame / trials < 0.6


def test_intervals_are_those_of_both_stages():
    """The variance of a resampled mean, worked out: that of recordings' means, and that of frames within each."""
    values, recordings = draw_recordings(np.random.default_rng(1))
    sums, counts = resample(values, recordings, np.zeros(len(values), np.int64), resamples=20_000)
    assert (counts == RECORDINGS * FRAMES).all()
    within = values.reshape(RECORDINGS, FRAMES)
    expected = within.mean(1).var() / RECORDINGS + within.var(1).mean() / (RECORDINGS * FRAMES)
    means = (sums / counts).ravel()
    assert means.var() == pytest.approx(expected, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * (expected / 20_000) ** 0.5)


def test_recordings_of_unequal_length_keep_their_frames():
    """Two recordings of one and three frames: a sample has two, four or six of them."""
    values = np.array([[0.0], [1], [1], [np.nan]])
    sums, counts = resample(values, np.array([7, 4, 4, 4]), np.array([0, 1, 1, 1]), resamples=500)
    frames_of_long = counts[:, 1, 0]
    assert set(counts[:, 0, 0]) == {0, 1, 2}
    assert frames_of_long.max() <= 6
    assert (sums[:, 1] == counts[:, 1]).all()
    assert (sums[:, 0] == 0).all()


NAMES = ("Gaming", "Patting", "Walking")


def test_groups_have_means_and_intervals_of_their_own():
    groups = ["Gaming"] * 6 + ["Walking"] * 2 + [None] * 2
    recordings = np.array([0, 0, 1, 1, 2, 2, 0, 1, 0, 1])
    values = {"a": np.array([1.0, 2, 3, 4, 5, 6, 20, 30, 100, np.nan]), "none": np.full(10, np.nan)}
    means = group_means(values, groups, NAMES)
    assert means == {"a": {ALL: pytest.approx(19), GROUP_MEAN: 14.25, "Gaming": 3.5, "Walking": 25}, "none": {}}
    intervals = group_intervals(values, groups, NAMES, recordings)
    assert intervals["none"] == {}
    assert intervals["a"].keys() == means["a"].keys()
    assert intervals["a"]["Walking"] == [20, 30]
    assert 1 <= intervals["a"]["Gaming"][0] < 3.5 < intervals["a"]["Gaming"][1] <= 6
    assert intervals == group_intervals(values, groups, NAMES, recordings)
    assert intervals != group_intervals(values, groups, NAMES, recordings, seed=1)
