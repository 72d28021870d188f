"""Evaluation, as a user starts it."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.evaluate import main
from engine.evaluation.split import mean_pose
from engine.loaded_model import read_model
from loaders import DataConfig, ShardSet, build_loader
from models.heatmaps import HeatmapEncoder, decode_heatmaps
from models.skeleton import action_group
from models.xr_egopose import ACTION_GROUPS, JOINTS, SKELETON
from tests.checkpoint_factory import make_checkpoint
from tests.shard_factory import make_shard_set, spoil_images
from tools.convert_checkpoint import main as convert

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("evaluate"), {"train": 8, "val": 7, "test": 10})


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


def flags(checkpoint, shards, output, *more):
    common = ["--checkpoint", checkpoint, "--data.shards", shards, "--output", output]
    return [str(flag) for flag in (*common, "--examples", "1", "--device", "cpu", "--precision", "fp32", *more)]


def evaluated(*arguments):
    assert main(flags(*arguments)) == 0
    return json.loads((arguments[2] / "metrics.json").read_text())


def numbers(metrics, prefix=""):
    """All numbers but those about the run itself, by the path to them."""
    flat = {}
    for key, value in metrics.items():
        if isinstance(value, dict | list):
            inner = value if isinstance(value, dict) else dict(enumerate(value))
            flat |= {} if key == "evaluation" else numbers(inner, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def frame_by_frame(path, shards, split):
    """Yield each frame's action with the network's and the true 3D and 2D positions, all from first principles."""
    loaded = read_model(path, torch.device("cpu"))
    data = DataConfig(shards=shards, batch_size=1, backend="torch", image_size=64)
    shard_set = ShardSet(shards, split)
    for batch in build_loader(data, split):
        with torch.no_grad():
            heatmap, joints_3d, _ = loaded.model(batch.image)
        pose = shard_set.pose([int(batch.index)])[0].astype(np.float64)
        action = shard_set.manifest.actions[shard_set.meta([int(batch.index)])[0, 3]]
        seen = decode_heatmaps(heatmap, 64)[0][0].numpy()
        true_2d = pose[list(SKELETON.heatmap_joints), :2]
        yield action, joints_3d[0].numpy(), pose[:, 2:] - pose[0, 2:], seen, true_2d


def test_the_metrics_are_those_of_the_frames(tmp_path, capsys, shards, finetuned):
    metrics = evaluated(finetuned, shards, tmp_path / "report", "--data.backend", "torch")
    mean = np.mean([p[:, 2:] - p[0, 2:] for p in ShardSet(shards, "train").labels()[0].astype(float)], axis=0)
    ours, baseline, pixels = {}, {}, []
    for action, joints_3d, true_3d, joints_2d, true_2d in frame_by_frame(finetuned, shards, "test"):
        for group in {"All", action_group(action, ACTION_GROUPS) or "All"}:
            ours.setdefault(group, []).append(1000 * np.linalg.norm(joints_3d - true_3d, axis=1).mean())
            baseline.setdefault(group, []).append(1000 * np.linalg.norm(mean - true_3d, axis=1).mean())
        pixels.append(np.linalg.norm(joints_2d - true_2d, axis=1).mean())
    assert len(ours["All"]) == metrics["frames"] == 10
    assert metrics["frames_per_group"] == {name: len(ours[name]) for name in metrics["frames_per_group"]}
    for key, by_group, tolerance in (("mpjpe_mm", ours, 1e-4), ("baseline_mpjpe_mm", baseline, 1e-6)):
        means = {name: np.mean(values) for name, values in by_group.items()}
        means["Group mean"] = np.mean([mean for name, mean in means.items() if name != "All"])
        assert metrics[key] == pytest.approx(means, rel=tolerance)
    assert metrics["error_2d_px"] == pytest.approx(np.mean(pixels), rel=1e-4)
    assert metrics["error_2d_frame_px"] == pytest.approx(np.mean(pixels) * 800 / 64, rel=1e-4)
    said = capsys.readouterr().out
    (row,) = [line for line in said.splitlines() if line.startswith("All ")]
    assert f"{metrics['mpjpe_mm']['All']:.1f}" in row
    assert "unreliable: they rest on 1 recording," in said
    assert "does not say where the head is" in said
    assert said.splitlines()[-1] == f"report: {tmp_path / 'report' / 'report.html'}"
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {
        "metrics.json",
        "overlays.png",
        "poses_3d.png",
        "per_action.png",
        "per_joint.png",
        "report.html",
    }


def test_poses_are_placed_before_the_camera_by_the_checkpoints_head(tmp_path, capsys, shards, finetuned):
    path = tmp_path / "head.pt"
    mean = (-0.01, -0.19, 0.05)
    head = {"mean": list(mean), "spread": [0.0, 0.0, 0.0]}
    checkpoint.save(path, dataclasses.replace(checkpoint.load(finetuned), head=head))
    metrics = evaluated(path, shards, tmp_path / "report", "--data.backend", "torch")
    poses = ShardSet(shards, "test").labels()[0][..., 2:].astype(float)
    frames = zip(frame_by_frame(path, shards, "test"), poses, strict=True)
    expected = [
        1000 * np.linalg.norm(joints_3d - joints_3d[1] + mean - pose, axis=1).mean()
        for (_, joints_3d, *_), pose in frames
    ]
    assert metrics["camera_mpjpe_mm"]["All"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert "does not say where the head is" not in capsys.readouterr().out


def test_two_checkpoints_are_compared_frame_by_frame(tmp_path, capsys, shards, finetuned):
    other = make_checkpoint(tmp_path / "other.pt", seed=1)
    common = ("--data.backend", "torch")
    theirs = evaluated(other, shards, tmp_path / "theirs", *common, "--per-frame", "csv")
    ours = evaluated(finetuned, shards, tmp_path / "ours", *common, "--against", str(tmp_path / "theirs"))
    against = ours["against"]
    assert against["table"] == str(tmp_path / "theirs" / "per_frame.csv")
    assert (against["frames"], against["frames_only_here"], against["frames_only_there"]) == (10, 0, 0)
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "error_2d_frame_px"):
        key = name if name == "mpjpe_mm" else f"group_{name}"
        for group, difference in against["difference"][name].items():
            assert difference == pytest.approx(ours[key][group] - theirs[key][group], abs=1e-3)
            low, high = against["ci95"][name][group]
            assert low - 1e-9 <= difference <= high + 1e-9
    said = capsys.readouterr().out
    assert f"{against['difference']['mpjpe_mm']['All']:+.1f}" in said
    assert "Compared frame by frame" in (tmp_path / "ours" / "report.html").read_text()
    # nothing in common is found before any frame is evaluated
    wrong = flags(
        finetuned, shards, tmp_path / "r", "--split", "val", "--against", tmp_path / "theirs" / "metrics.json"
    )
    assert main([str(flag) for flag in wrong]) == 2
    assert "no frame in common" in capsys.readouterr().err
    # a table that was not written with the metrics beside it must not stand for them
    evaluated(other, shards, tmp_path / "theirs", *common)
    assert main([str(f) for f in flags(finetuned, shards, tmp_path / "r", "--against", tmp_path / "theirs")]) == 2
    assert "--per-frame csv" in capsys.readouterr().err


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_a_row_for_every_frame(tmp_path, shards, finetuned, file_format):
    metrics = evaluated(finetuned, shards, tmp_path / "report", "--per-frame", file_format)
    path = tmp_path / "report" / f"per_frame.{file_format}"
    if file_format == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    shard_set = ShardSet(shards, "test")
    assert [row["key"] for row in rows] == [shard_set.key(index) for index in range(10)]
    for row in rows:
        assert row["key"] == f"{row['subject']}-{row['environment']}-{int(row['frame']):06d}"
        assert row["group"] == (action_group(row["action"], ACTION_GROUPS) or "")
        joints = [float(row[f"error_mm_{joint}"]) for joint in JOINTS]
        assert float(row["mpjpe_mm"]) == pytest.approx(np.mean(joints), abs=1e-3)
        pixels = [float(row[f"error_px_{JOINTS[joint]}"]) for joint in SKELETON.heatmap_joints]
        assert float(row["error_2d_px"]) == pytest.approx(np.mean(pixels), abs=1e-3)
    for name in ("pa_mpjpe_mm", "auc_150mm_percent", "bone_length_error_mm", "upper_body_mpjpe_mm"):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(metrics[name], abs=1e-3)


def test_parquet_needs_its_library(tmp_path, capsys, monkeypatch, shards, finetuned):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(flags(finetuned, shards, tmp_path / "r", "--per-frame", "parquet")) == 2
    assert "pip install pyarrow, or" in capsys.readouterr().err


def test_batch_size_does_not_matter(tmp_path, shards, finetuned):
    one, seven = (
        evaluated(finetuned, shards, tmp_path / str(size), "--data.batch-size", str(size), "--data.backend", "torch")
        for size in (1, 7)
    )
    assert numbers(one) == pytest.approx(numbers(seven), rel=1e-4)


def run_processes(count, folder, *arguments):
    """Evaluate under torchrun, started as a file from another folder; return the metrics."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
    entry = str(ROOT / "engine" / "evaluate.py")
    done = subprocess.run(
        [*launcher, entry, *flags(*arguments)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    metrics = json.loads((arguments[2] / "metrics.json").read_text())
    assert metrics["evaluation"]["processes"] == count
    return metrics


@pytest.mark.network
def test_processes_do_not_matter(tmp_path, shards, finetuned):
    """Three processes, of which the last has no frame at all."""
    common = ("--split", "val", "--data.backend", "torch", "--data.batch-size")
    three = run_processes(3, tmp_path, finetuned, shards, tmp_path / "three", *common, "4")
    one = evaluated(finetuned, shards, tmp_path / "one", *common, "2")
    assert numbers(one) == pytest.approx(numbers(three), rel=1e-4)


@pytest.mark.network
def test_skipped_frames_are_skipped_and_listed(tmp_path, capsys, finetuned):
    shards = make_shard_set(tmp_path / "shards", {"train": 4, "test": 10})
    common = ("--data.backend", "torch", "--data.batch-size", "2", "--data.on-bad-sample")
    whole = evaluated(finetuned, shards, tmp_path / "whole", *common, "fail")
    # the second batch of two is skipped whole
    spoil_images(shards, "test", {2, 3, 8})
    assert main(flags(finetuned, shards, tmp_path / "refused", *common, "fail")) == 2
    assert "000003.rgba.jpg at byte" in capsys.readouterr().err
    one = evaluated(finetuned, shards, tmp_path / "one", *common, "skip")
    two = run_processes(2, tmp_path, finetuned, shards, tmp_path / "two", *common, "skip")
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-4)
    assert (whole["frames"], one["frames"]) == (10, 7)
    for metrics in (one, two):
        listed = metrics["evaluation"]["skipped"]
        assert [number for number in (3, 4, 9) for line in listed if f"{number:06}.rgba.jpg" in line] == [3, 4, 9]
        assert metrics["evaluation"]["notes"][0].startswith("3 frames skipped, the first: ")


def test_a_split_without_any_usable_image_is_one_line(tmp_path, capsys, finetuned):
    shards = make_shard_set(tmp_path / "shards", {"test": 3})
    spoil_images(shards, "test", range(3))
    assert main(flags(finetuned, shards, tmp_path / "r", "--data.on-bad-sample", "skip")) == 2
    assert "has no image that can be decoded" in capsys.readouterr().err


def test_a_heatmap_network_has_its_2d_error_alone(tmp_path, capsys, shards):
    metrics = evaluated(make_checkpoint(tmp_path / "2d.pt", "train2d"), shards, tmp_path / "report")
    assert "mpjpe_mm" not in metrics
    assert metrics["error_2d_px"] > 0
    assert "heatmap network alone" in capsys.readouterr().out


def test_a_lifting_network_sees_true_heatmaps(tmp_path, capsys, shards):
    path = make_checkpoint(tmp_path / "3d.pt", "train3d")
    metrics = evaluated(path, shards, tmp_path / "report")
    assert "error_2d_px" not in metrics
    assert "true heatmaps" in capsys.readouterr().out
    model = read_model(path, torch.device("cpu")).model
    pose = torch.from_numpy(ShardSet(shards, "test").labels()[0])
    with torch.no_grad():
        predicted = model(HeatmapEncoder(64, 8)(pose[:, list(SKELETON.heatmap_joints), :2]))[0]
    error = (predicted - (pose[..., 2:] - pose[:, :1, 2:])).norm(dim=-1).mean()
    assert metrics["mpjpe_mm"]["All"] == pytest.approx(1000 * float(error), rel=1e-4)


def test_a_reference_checkpoint_gives_the_same(tmp_path, shards, finetuned):
    assert convert(["--input", str(finetuned), "--output", str(tmp_path / "theirs.pth")]) == 0
    theirs = evaluated(tmp_path / "theirs.pth", shards, tmp_path / "theirs", "--data.backend", "torch")
    ours = evaluated(finetuned, shards, tmp_path / "ours", "--data.backend", "torch")
    assert theirs["evaluation"]["backbone"] == "resnet18"
    assert numbers(theirs) == numbers(ours)


def test_without_a_training_split_there_is_no_baseline(tmp_path, capsys, finetuned):
    shards = make_shard_set(tmp_path / "shards", {"test": 3})
    assert mean_pose(ShardSet(shards, "test")) is None
    metrics = evaluated(finetuned, shards, tmp_path / "report")
    assert "baseline_mpjpe_mm" not in metrics
    assert "no mean pose to compare with" in capsys.readouterr().err


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, shards, finetuned):
    empty = make_shard_set(tmp_path / "empty", {"train": 2, "test": 0})
    whole = make_shard_set(tmp_path / "whole", {"test": 2}, crop="full")
    cases = (
        (flags(tmp_path / "absent.pt", shards, tmp_path / "r"), "absent.pt does not exist"),
        (flags(finetuned, tmp_path / "absent", tmp_path / "r"), "no manifest.json"),
        (flags(finetuned, empty, tmp_path / "r"), "has no samples"),
        (flags(finetuned, empty, tmp_path / "r", "--split", "val"), "has no split 'val'"),
        (flags(finetuned, shards, tmp_path / "r", "--data.image-size", "128"), "--data.image-size is no flag"),
        (flags(finetuned, shards, tmp_path / "r", "--data.backend", "resident"), "give auto, dali or torch"),
        (flags(finetuned, whole, tmp_path / "r"), "has images of the crop full, "),
        (flags(finetuned, shards, tmp_path / "r", "--examples", "0"), "at least 1"),
        (flags(finetuned, shards, tmp_path / "r", "--splitt", "val"), "--splitt"),
    )
    for arguments, expected in cases:
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.strip().splitlines()[-1].startswith("evaluate: error: ")
        assert not (tmp_path / "r").exists()


def test_predictions_that_are_no_numbers_are_status_1(tmp_path, capsys, shards, finetuned):
    content = checkpoint.load(finetuned)
    content.weights["lifting_net"]["b1_fc3.weight"].fill_(3e38)
    checkpoint.save(tmp_path / "huge.pt", content)
    assert main(flags(tmp_path / "huge.pt", shards, tmp_path / "r")) == 1
    assert "10 of 10 predictions are no finite numbers, the first is that of female_003_a_a" in capsys.readouterr().err
