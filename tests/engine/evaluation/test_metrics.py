"""Metrics against explicit loops, and the table."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation.intervals import ALL, GROUP_MEAN
from engine.evaluation.metrics import frame_errors
from engine.evaluation.predictions import Predictions
from engine.evaluation.summary import notes_on, summarize
from engine.report.tables import action_table, joint_table
from loaders.format.manifest import Manifest
from loaders.preprocessing import Preprocessing
from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.head import HeadPosition
from models.metrics import align
from models.xr_egopose import ACTION_GROUPS, CAMERA, HEAD, JOINTS, SKELETON

ACTIONS = ["Dribble", "walking_mixamo_com", "Boxing_mixamo_com_12", "an_unknown_action", "Charge", "walking", "Patting"]
MANIFEST = Manifest({}, Preprocessing.of("raw", "square", 64, 0, CAMERA), (), (), tuple(ACTIONS), {})
GROUPS = ["Gaming", "Walking", "Gaming", None, "Gaming", "Walking", "Patting"]


@pytest.fixture(scope="module")
def predictions():
    random = np.random.default_rng(0)
    true_3d = random.normal(size=(7, 16, 3)).astype(np.float32)
    true_2d = random.uniform(0, 64, (7, 15, 2)).astype(np.float32)
    noise = [random.normal(size=a.shape).astype(np.float32) * scale for a, scale in ((true_3d, 0.1), (true_2d, 3))]
    meta = np.zeros((7, 4), np.int32)
    meta[:, 0] = np.arange(7) % 3
    meta[:, 2:] = np.arange(7)[:, None]
    visible = np.full((7, 15), IN_IMAGE, np.uint8)
    visible[2, 5], visible[3, 4], visible[6] = UNSEEN, IN_LENS, IN_LENS
    return Predictions(
        index=np.arange(7),
        meta=meta,
        true_3d=true_3d,
        true_2d=true_2d,
        visible=visible,
        joints_3d=true_3d + noise[0],
        joints_2d=true_2d + noise[1],
    )


@pytest.fixture(scope="module")
def mean_pose():
    return np.random.default_rng(1).normal(size=(16, 3))


@pytest.fixture(scope="module")
def errors(predictions, mean_pose):
    necks = np.random.default_rng(2).normal(size=(7, 3))
    head = HeadPosition((0.1, 0.2, 0.3), (0.0, 0.0, 0.0))
    return frame_errors(predictions, MANIFEST, mean_pose, head=head, roots=necks, frame_pixels=12.5)


def described(errors):
    return summarize(errors) | {"evaluation": {"joints": JOINTS, "action_groups": list(ACTION_GROUPS)}}


@pytest.fixture(scope="module")
def metrics(errors):
    return described(errors)


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
    assert list(metrics["mpjpe_mm"]) == ["All", "Group mean", "Gaming", "Patting", "Walking"]
    assert metrics["recordings_per_group"] == {"All": 3, "Gaming": 3, "Patting": 1, "Walking": 2}
    means = [metrics["mpjpe_mm"][group] for group in ("Gaming", "Patting", "Walking")]
    assert metrics["mpjpe_mm"][GROUP_MEAN] == pytest.approx(sum(means) / 3)
    few, absent = notes_on(metrics, list(ACTION_GROUPS))
    assert "unreliable: they rest on 3 recordings" in few
    assert "over 3 of 9 groups: no frames of Gesticulating, Greeting, " in absent


def test_nothing_is_said_of_thirty_recordings_with_all_groups(metrics):
    whole = {"recordings_per_group": {ALL: 30}, "frames_per_group": dict.fromkeys((ALL, *ACTION_GROUPS), 9)}
    assert notes_on(whole, list(ACTION_GROUPS)) == []


def test_the_error_in_the_camera_frame_is_that_of_poses_hung_on_the_head(predictions, metrics):
    """The predicted Head is put where Head always is; the truth stands where it stands."""
    necks = np.random.default_rng(2).normal(size=(7, 3))
    true = predictions.true_3d + necks[:, None]
    placed = predictions.joints_3d - predictions.joints_3d[:, HEAD : HEAD + 1] + np.array([0.1, 0.2, 0.3])
    for group in ("All", "Walking"):
        assert metrics["camera_mpjpe_mm"][group] == pytest.approx(mean_mm(placed, true, frames_of(group)), rel=1e-6)
    assert metrics["camera_mpjpe_mm"]["All"] > metrics["mpjpe_mm"]["All"]


@pytest.mark.parametrize("group", ["All", "Gaming", "Patting", "Walking"])
def test_mpjpe_is_the_mean_over_frames_and_joints(predictions, mean_pose, metrics, group):
    frames = frames_of(group)
    ours, baseline = metrics["mpjpe_mm"][group], metrics["baseline_mpjpe_mm"][group]
    assert ours == pytest.approx(mean_mm(predictions.joints_3d, predictions.true_3d, frames), rel=1e-6)
    assert baseline == pytest.approx(mean_mm([mean_pose] * 7, predictions.true_3d, frames), rel=1e-6)
    aligned = align(predictions.joints_3d, predictions.true_3d)
    assert metrics["group_pa_mpjpe_mm"][group] == pytest.approx(mean_mm(aligned, predictions.true_3d, frames), rel=1e-6)
    assert metrics["group_pa_mpjpe_mm"][group] < ours


def test_halves_and_joints(predictions, mean_pose, metrics):
    frames = range(7)
    for prefix, predicted in (("", predictions.joints_3d), ("baseline_", [mean_pose] * 7)):
        for half, joints in (("upper", range(8)), ("lower", range(8, 16))):
            expected = mean_mm(predicted, predictions.true_3d, frames, joints)
            assert metrics[f"{prefix}{half}_body_mpjpe_mm"] == pytest.approx(expected, rel=1e-6)
        by_joint = metrics[f"{prefix}joint_mpjpe_mm"]
        assert list(by_joint) == list(JOINTS)
        for joint, name in enumerate(JOINTS):
            assert by_joint[name] == pytest.approx(mean_mm(predicted, predictions.true_3d, frames, [joint]), rel=1e-6)
    assert metrics["pa_mpjpe_mm"] == metrics["group_pa_mpjpe_mm"]["All"]


def test_error_in_the_image(predictions, metrics):
    offsets = (predictions.joints_2d - predictions.true_2d).astype(float)
    expected = [[float(np.hypot(*offsets[frame, joint])) for joint in range(15)] for frame in range(6)]
    del expected[2][5], expected[3][4]  # not in the image; of the seventh frame nothing is
    means = [np.mean(frame) for frame in expected]
    assert metrics["error_2d_px"] == pytest.approx(np.mean(means), rel=1e-6)
    assert metrics["error_2d_frame_px"] == pytest.approx(12.5 * np.mean(means), rel=1e-6)
    assert metrics["group_error_2d_px"]["Walking"] == pytest.approx(np.mean([means[1], means[5]]), rel=1e-6)
    assert "Patting" not in metrics["group_error_2d_px"]
    counts = [metrics[f"joints_{name}"] for name in ("in_image", "outside_image", "unseen")]
    assert counts == [105 - 17, 16, 1]
    names = [JOINTS[joint] for joint in SKELETON.heatmap_joints]
    assert list(metrics["joint_error_2d_px"]) == names
    assert metrics["joint_error_2d_px"]["RightToeBase"] == pytest.approx(np.mean([row[-1] for row in expected]))


def test_what_is_not_predicted_is_skipped(predictions, mean_pose):
    flat = dataclasses.replace(predictions, joints_3d=None)
    errors = frame_errors(flat, MANIFEST, mean_pose)
    assert errors.unit == "px"
    assert errors.ranked[6] == 0
    metrics = described(errors)
    assert not [key for key in metrics if "mpjpe" in key or "jitter" in key]
    assert "mean pose" not in action_table(metrics).to_text()
    lifted = dataclasses.replace(predictions, joints_2d=None)
    metrics = described(frame_errors(lifted, MANIFEST, None))
    assert not [key for key in metrics if "2d" in key or "baseline" in key or "camera" in key]
    assert "camera" not in action_table(metrics).to_text()
    assert joint_table(metrics).titles == ["MPJPE mm"]


def test_the_table_has_the_papers_rows(metrics):
    table = action_table(metrics)
    lines = table.to_text().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line[:18].strip() for line in lines[2:]] == [
        "All",
        "Group mean",
        *ACTION_GROUPS,
        "Upper body",
        "Lower body",
    ]
    cells = {row: dict(zip(table.titles, cells, strict=True)) for row, cells in table.rows.items()}
    low, high = metrics["ci95"]["mpjpe_mm"]["All"]
    assert cells["All"] == {
        "frames": "7",
        "recordings": "3",
        "MPJPE mm": f"{metrics['mpjpe_mm']['All']:.1f}",
        "95 %": f"{low:.1f}-{high:.1f}",
        "mean pose": f"{metrics['baseline_mpjpe_mm']['All']:.1f}",
        "camera mm": f"{metrics['camera_mpjpe_mm']['All']:.1f}",
        "PA mm": f"{metrics['pa_mpjpe_mm']:.1f}",
        "N mm": f"{metrics['n_mpjpe_mm']:.1f}",
        "BA mm": f"{metrics['ba_mpjpe_mm']:.1f}",
        "PCK %": f"{metrics['pck_150mm_percent']:.1f}",
        "AUC %": f"{metrics['auc_150mm_percent']:.1f}",
        "2D px": f"{metrics['error_2d_px']:.2f}",
    }
    assert set(cells["Talking"].values()) == {"-"}
    assert cells["Upper body"]["MPJPE mm"] == f"{metrics['upper_body_mpjpe_mm']:.1f}"
    assert cells["Upper body"]["mean pose"] == f"{metrics['baseline_upper_body_mpjpe_mm']:.1f}"


def test_pck_auc_and_bones(predictions, metrics):
    """3D-PCK, its area, and bone lengths, written out."""
    distances, bones = [], []
    for predicted, true in zip(predictions.joints_3d.astype(float), predictions.true_3d.astype(float), strict=True):
        distances.append([1000 * math.dist(p, t) for p, t in zip(predicted, true, strict=True)])
        bones.append(
            [1000 * abs(math.dist(predicted[a], predicted[b]) - math.dist(true[a], true[b])) for a, b in SKELETON.bones]
        )
    flat = [distance for frame in distances for distance in frame]
    assert 10 < metrics["pck_150mm_percent"] < 90  # it does tell
    assert metrics["pck_150mm_percent"] == pytest.approx(100 * sum(d < 150 for d in flat) / len(flat))
    curve = [sum(d < threshold for d in flat) / len(flat) for threshold in range(0, 151, 5)]
    assert metrics["auc_150mm_percent"] == pytest.approx(100 * sum(curve) / 31)
    walking = [d < 150 for frame in frames_of("Walking") for d in distances[frame]]
    assert metrics["group_pck_150mm_percent"]["Walking"] == pytest.approx(100 * sum(walking) / len(walking))
    assert metrics["bone_length_error_mm"] == pytest.approx(np.mean(bones))
    neck_head = np.mean([frame[0] for frame in bones])
    assert metrics["per_bone_length_error_mm"]["Neck-Head"] == pytest.approx(neck_head)
    assert len(metrics["per_bone_length_error_mm"]) == 14


def test_every_metric_has_an_interval_around_it(metrics):
    for name, groups in metrics["ci95"].items():
        means = metrics.get(f"group_{name}", metrics[name])
        assert groups.keys() == means.keys()
        low, high = groups["All"]
        assert low < means["All"] < high
    assert metrics["ci95"]["mpjpe_mm"]["Patting"] == [pytest.approx(metrics["mpjpe_mm"]["Patting"])] * 2  # one frame


def test_every_key_is_explained(metrics):
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    named = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    # these frames are not consecutive, and stand alone
    elsewhere = {"acceleration_error_mm_per_frame2", "jitter_mm_per_frame3", "true_jitter_mm_per_frame3", "against"}
    assert {key.removeprefix("group_") for key in metrics} | elsewhere <= named
    assert named <= metrics.keys() | elsewhere  # and nothing else
