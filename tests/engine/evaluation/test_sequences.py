import numpy as np
import pytest

from engine.evaluation.sequences import motion_metrics

ACCELERATION, JITTER, TRUE_JITTER = (
    "acceleration_error_mm_per_frame2",
    "jitter_mm_per_frame3",
    "true_jitter_mm_per_frame3",
)


def poses_along(positions):
    """Poses (n, 16, 3) whose joints all move along x."""
    poses = np.zeros((len(positions), 16, 3))
    poses[:, :, 0] = np.array(positions)[:, None]
    return poses


def meta_of(*frames):
    """Rows (subject, environment, frame, action)."""
    return np.array(frames, np.int32)


def test_only_consecutive_frames_count_whatever_their_order():
    meta = meta_of(*[(0, 0, frame, 0) for frame in (1, 2, 3, 4, 6, 7)], (1, 0, 5, 0), (0, 1, 5, 0), (0, 0, 5, 1))
    shuffled = np.random.default_rng(0).permutation(9)
    poses = np.random.default_rng(1).normal(size=(2, 9, 16, 3))
    metrics = motion_metrics(*poses[:, shuffled], meta[shuffled])
    found = {name: np.empty(9) for name in metrics}
    for name, values in metrics.items():
        found[name][shuffled] = values
    predicted, true = poses
    for middle in (1, 2):
        second = [p[middle - 1] - 2 * p[middle] + p[middle + 1] for p in (predicted, true)]
        expected = np.linalg.norm(second[0] - second[1], axis=1).mean()
        assert found[ACCELERATION][middle] == pytest.approx(expected)
    for name, p in ((JITTER, predicted), (TRUE_JITTER, true)):
        third = p[3] - 3 * p[2] + 3 * p[1] - p[0]
        assert found[name][1] == pytest.approx(np.linalg.norm(third, axis=1).mean())
        assert np.flatnonzero(np.isfinite(found[name])).tolist() == [1]
    assert np.flatnonzero(np.isfinite(found[ACCELERATION])).tolist() == [1, 2]


def test_even_motion_has_no_jitter_and_a_constant_offset_no_acceleration_error():
    meta = meta_of(*[(0, 0, frame, 0) for frame in range(8)])
    true = poses_along([frame**2 for frame in range(8)])
    metrics = motion_metrics(true + 30, true, meta)
    assert np.nanmax(metrics[ACCELERATION]) == np.nanmax(metrics[JITTER]) == np.nanmax(metrics[TRUE_JITTER]) == 0
    still = motion_metrics(np.zeros_like(true), true, meta)
    assert np.nanmean(still[ACCELERATION]) == 2  # mm/frame^2: the second difference of a square
    shaking = motion_metrics(poses_along([0, 1] * 4), true, meta)
    assert np.nanmean(shaking[JITTER]) == 4


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_too_few_frames_have_none(frames):
    poses = np.ones((frames, 16, 3))
    metrics = motion_metrics(poses, poses, meta_of(*[(0, 0, frame, 0) for frame in range(frames)]))
    assert np.isnan(metrics[JITTER]).all()
    assert np.isfinite(metrics[ACCELERATION]).sum() == max(0, frames - 2)
