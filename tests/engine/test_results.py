"""Metrics against explicit loops, and the table."""

import numpy as np
import pytest

from engine.predictions import Predictions
from engine.results import ALL, PUBLISHED_DUAL_BRANCH_MM, action_table, frame_errors, joint_table, summarise
from models.metrics import align
from models.skeleton import ACTION_GROUPS, HEATMAP_JOINTS, JOINTS

ACTIONS = ["Dribble", "walking_mixamo_com", "Boxing_mixamo_com_12", "an_unknown_action", "Charge", "walking", "Patting"]
GROUPS = ["Gaming", "Walking", "Gaming", None, "Gaming", "Walking", "Patting"]


@pytest.fixture(scope="module")
def found():
    random = np.random.default_rng(0)
    true_3d = random.normal(size=(7, 16, 3)).astype(np.float32)
    true_2d = random.uniform(0, 64, (7, 15, 2)).astype(np.float32)
    noise = [random.normal(size=a.shape).astype(np.float32) * scale for a, scale in ((true_3d, 0.1), (true_2d, 3))]
    return Predictions(true_3d, true_2d, true_3d + noise[0], true_2d + noise[1], np.arange(len(true_3d)))


@pytest.fixture(scope="module")
def mean_pose():
    return np.random.default_rng(1).normal(size=(16, 3))


@pytest.fixture(scope="module")
def metrics(found, mean_pose):
    return summarise(frame_errors(found, ACTIONS, mean_pose), frame_pixels=12.5)


def mean_mm(predicted, true, frames, joints=range(16)):
    """Mean distance in mm, written out."""
    total, count = 0.0, 0
    for frame in frames:
        for joint in joints:
            offset = [float(predicted[frame][joint][k]) - float(true[frame][joint][k]) for k in range(3)]
            total += 1000 * (offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2) ** 0.5
            count += 1
    return total / count


def frames_of(group):
    return [i for i, name in enumerate(GROUPS) if group in (name, ALL)]


def test_groups_follow_the_papers_table(metrics):
    assert metrics["frames"] == 7
    assert metrics["frames_per_group"] == {"All": 7, "Gaming": 3, "Patting": 1, "Walking": 2}
    assert list(metrics["mpjpe_mm"]) == ["All", "Gaming", "Patting", "Walking"]


@pytest.mark.parametrize("group", ["All", "Gaming", "Patting", "Walking"])
def test_mpjpe_is_the_mean_over_frames_and_joints(found, mean_pose, metrics, group):
    frames = frames_of(group)
    ours, baseline = metrics["mpjpe_mm"][group], metrics["baseline_mpjpe_mm"][group]
    assert ours == pytest.approx(mean_mm(found.joints_3d, found.true_3d, frames), rel=1e-6)
    assert baseline == pytest.approx(mean_mm([mean_pose] * 7, found.true_3d, frames), rel=1e-6)
    aligned = align(found.joints_3d, found.true_3d)
    assert metrics["group_pa_mpjpe_mm"][group] == pytest.approx(mean_mm(aligned, found.true_3d, frames), rel=1e-6)
    assert metrics["group_pa_mpjpe_mm"][group] < ours


def test_halves_and_joints(found, mean_pose, metrics):
    frames = range(7)
    for prefix, predicted in (("", found.joints_3d), ("baseline_", [mean_pose] * 7)):
        for half, joints in (("upper", range(8)), ("lower", range(8, 16))):
            expected = mean_mm(predicted, found.true_3d, frames, joints)
            assert metrics[f"{prefix}{half}_body_mpjpe_mm"] == pytest.approx(expected, rel=1e-6)
        by_joint = metrics[f"{prefix}joint_mpjpe_mm"]
        assert list(by_joint) == list(JOINTS)
        for joint, name in enumerate(JOINTS):
            assert by_joint[name] == pytest.approx(mean_mm(predicted, found.true_3d, frames, [joint]), rel=1e-6)
    assert metrics["pa_mpjpe_mm"] == metrics["group_pa_mpjpe_mm"]["All"]


def test_error_in_the_picture(found, metrics):
    offsets = (found.joints_2d - found.true_2d).astype(float)
    expected = [[float(np.hypot(*offsets[frame, joint])) for joint in range(15)] for frame in range(7)]
    assert metrics["error_2d_px"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert metrics["error_2d_frame_px"] == pytest.approx(12.5 * np.mean(expected), rel=1e-6)
    assert metrics["group_error_2d_px"]["Walking"] == pytest.approx(np.mean([expected[1], expected[5]]), rel=1e-6)
    names = [JOINTS[joint] for joint in HEATMAP_JOINTS]
    assert list(metrics["joint_error_2d_px"]) == names
    assert metrics["joint_error_2d_px"]["RightToeBase"] == pytest.approx(np.mean([row[14] for row in expected]))


def test_what_is_not_predicted_is_left_out(found, mean_pose):
    flat = Predictions(found.true_3d, found.true_2d, None, found.joints_2d, found.frames)
    errors = frame_errors(flat, ACTIONS, mean_pose)
    assert errors.unit == "px"
    metrics = summarise(errors, frame_pixels=1.0)
    assert not [key for key in metrics if "mpjpe" in key]
    assert "mean pose" not in action_table(metrics).to_text()
    lifted = Predictions(found.true_3d, found.true_2d, found.joints_3d, None, found.frames)
    metrics = summarise(frame_errors(lifted, ACTIONS, None), frame_pixels=1.0)
    assert not [key for key in metrics if "2d" in key or "baseline" in key]
    assert "published" in action_table(metrics).to_text()
    assert [column.title for column in joint_table(metrics).columns] == ["MPJPE mm"]


def test_the_table_has_the_papers_rows(metrics):
    lines = action_table(metrics).to_text().splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = {line[:18].strip(): line[18:].split() for line in lines[2:]}
    assert list(cells) == ["All", *ACTION_GROUPS, "Upper body", "Lower body"]
    assert cells["All"][0] == "7"
    assert cells["All"][1] == f"{metrics['mpjpe_mm']['All']:.1f}"
    assert cells["All"][2] == f"{metrics['baseline_mpjpe_mm']['All']:.1f}"
    assert cells["Talking"] == ["-", "-", "-", "43.9", "-", "-"]
    assert cells["Upper body"][:3] == ["-", f"{metrics['upper_body_mpjpe_mm']:.1f}", cells["Upper body"][2]]


def test_published_results_cover_every_row():
    assert set(PUBLISHED_DUAL_BRANCH_MM) == {ALL, *ACTION_GROUPS}
