"""All stages on a dataset of 15 joints, whose root is not the first, taken by another camera in another size."""

import csv
import json
import sys
import time

import numpy as np
import pytest
import torch

from engine import evaluate, infer
from engine.checkpoint import format as checkpoint
from engine.evaluation.examples import stored_image
from engine.loaded_model import read_model
from engine.stages import STAGES, ModelConfig, Train3d
from loaders import ShardSet
from loaders.codecs import encode
from loaders.errors import InputError
from models.losses import LossWeights, PoseLoss
from models.metrics import joint_errors
from tests.checkpoint_factory import make_checkpoint
from tests.engine.training_runs import finish, flags, read_metrics, same, start, weights
from tests.other_datasets import BODY, FRAMES
from tests.shard_factory import make_shard_set
from tools import browse, export

FRAME = FRAMES["ocam"]
MORE = ("--epochs", "6", "--checkpoint.every", "3", "--log-every", "1")
MORE += ("--data.augment.rotation", "20", "--data.augment.horizontal-flip", "0.5")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("other") / "shards"
    counts = {"train": 18, "val": 5, "test": 7}
    groups, actions = {"Sport": ("run", "jump"), "Rest": ("sit",)}, ("jump", "sit", "eat")
    return make_shard_set(root, counts, image_size=128, frame=FRAME, skeleton=BODY, groups=groups, actions=actions)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shards):
    """The folders of three runs, the last of which begins with what the first two learned."""
    root = tmp_path_factory.mktemp("runs")
    for stage in ("train2d", "train3d", "finetune"):
        begins = ("--load-2d", str(root / "train2d" / "best.pt"), "--load-3d", str(root / "train3d" / "best.pt"))
        finish(start(flags(shards, root / stage, stage, *MORE, *(begins if stage == "finetune" else ()))))
    return root


def run(monkeypatch, command, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    return command.main()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train2d", "train3d", "finetune"])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, shards, trained, stage):
    begins = ()
    if stage == "finetune":
        begins = ("--load-2d", str(trained / "train2d" / "best.pt"), "--load-3d", str(trained / "train3d" / "best.pt"))
    more = (*MORE, *begins)
    process = start(flags(shards, tmp_path / "run", stage, *more))
    while len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < 5:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.wait()
    finish(start(flags(shards, tmp_path / "run", stage, *more, "--resume")))
    assert same(weights(trained / stage), weights(tmp_path / "run"))
    entries = read_metrics(trained / stage / "metrics.jsonl")
    losses = [entry["train/loss"] for entry in entries if "train/loss" in entry]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.slow
def test_a_checkpoint_says_what_its_joints_and_its_camera_are(trained):
    loaded = read_model(trained / "finetune" / "best.pt", torch.device("cpu"))
    assert (loaded.skeleton, loaded.camera) == (BODY, FRAME)
    assert loaded.head.joint == BODY.joints.index("crown")
    shapes = [tuple(loaded.model.heatmap_net.final_layer.weight.shape), loaded.model.lifting_net.b1_fc3.weight.shape[0]]
    assert shapes == [(14, 256, 1, 1), 45]


@pytest.mark.slow
def test_an_evaluation_is_of_its_joints_bones_and_groups(tmp_path, monkeypatch, capsys, shards, trained):
    checkpoint_file, report = trained / "finetune" / "best.pt", tmp_path / "report"
    given = ("--checkpoint", checkpoint_file, "--data.shards", shards, "--output", report, "--per-frame", "csv")
    assert run(monkeypatch, evaluate, *given, "--precision", "fp32") == 0
    assert "they are of xR-EgoPose's test set, and these frames are of another." in capsys.readouterr().out
    metrics = json.loads((report / "metrics.json").read_text())
    assert list(metrics["joint_mpjpe_mm"]) == list(BODY.joints)
    assert list(metrics["joint_error_2d_px"]) == [name for name in BODY.joints if name != "crown"]
    assert next(iter(metrics["per_bone_length_error_mm"])) == "hips-chest"
    assert list(metrics["frames_per_group"]) == ["All", "Sport", "Rest"]
    assert metrics["evaluation"]["dataset"] == "another"
    page = (report / "report.html").read_text()
    assert "relative to hips" in page
    assert "640x512 frame" in page
    with (report / "per_frame.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["Sport", "Rest", "", "Sport", "Rest", "", "Sport"]
    # the errors of the network itself, by hand
    loaded = read_model(checkpoint_file, torch.device("cpu"))
    shard_set, model = ShardSet(shards, "test"), infer.load_model(checkpoint_file, precision="fp32")
    true = shard_set.pose(range(7))[:, :, 2:]

    poses = model([stored_image(shard_set, index, 128) for index in range(7)]).joints_3d
    errors = 1000 * joint_errors(poses, true - true[:, BODY.root : BODY.root + 1])
    assert metrics["mpjpe_mm"]["All"] == pytest.approx(errors.mean(), rel=1e-4)
    assert metrics["lower_body_mpjpe_mm"] == pytest.approx(errors[:, BODY.lower_body].mean(), rel=1e-4)
    assert float(rows[3]["error_mm_knee_r"]) == pytest.approx(errors[3, BODY.joints.index("knee_r")], rel=1e-4)
    assert metrics["evaluation"]["frame"] == f"{loaded.camera.width}x{loaded.camera.height}"


@pytest.mark.slow
def test_it_is_used_on_whole_frames_and_exported(tmp_path, monkeypatch, capsys, trained):
    checkpoint_file = trained / "finetune" / "best.pt"
    frame = np.random.default_rng(0).integers(0, 256, (512, 640, 3), np.uint8)
    (tmp_path / "frame.png").write_bytes(encode(frame, ".png"))
    assert (
        run(monkeypatch, infer, "--checkpoint", checkpoint_file, "--input", tmp_path, "--output", tmp_path / "out") == 0
    )
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    (found,) = content["images"]
    assert content["frames"]["joints_3d_m"] == "relative to hips"
    assert content["frames"]["joints_3d_camera_m"].startswith("of the camera: crown lies at head.mean_m")
    assert list(found["joints_3d_m"]) == list(BODY.joints)
    assert list(found["joints_2d_px"]) == list(BODY.heatmap_names)
    # the pose in the camera frame, through the camera of the frames, lies where it is said to be in the image
    placed = np.array(list(found["joints_3d_camera_m"].values()))
    seen = [name for name, place in found["projected_2d_px"].items() if place is not None]
    shown = np.array([found["projected_2d_px"][name] for name in seen])
    assert len(seen) > 5
    expected = FRAME.project(placed)[[BODY.joints.index(name) for name in seen]]
    np.testing.assert_allclose(shown, expected, atol=0.05)
    assert (tmp_path / "out" / "images" / "frame.png").is_file()
    for ending in ("onnx", "pt2"):
        assert run(monkeypatch, export, "--checkpoint", checkpoint_file, "--output", tmp_path / f"net.{ending}") == 0
    assert "gives heatmap and joints_3d and joints_3d_camera" in capsys.readouterr().out
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(facts["heatmap_joints"]) == list(BODY.heatmap_names)
    assert "512x512 px of a 640x512 frame at left 64, top 0" in facts["image"]
    assert "metres relative to hips" in facts["joints_3d"]


@pytest.mark.slow
def test_its_frames_are_browsed(tmp_path, monkeypatch, shards, trained):
    given = ("--shards", shards, "--split", "test", "--output", tmp_path / "sheet.html")
    checkpoints = ("--checkpoint", trained / "finetune" / "best.pt", trained / "train2d" / "best.pt")
    assert run(monkeypatch, browse, *given, *checkpoints) == 0
    page = (tmp_path / "sheet.html").read_text()
    assert '"crown"' in page
    assert "640x512 frame" in page


def test_networks_of_other_joints_are_not_mixed(tmp_path, monkeypatch, shards):
    """Neither where shapes differ, nor where only names do."""
    theirs = make_checkpoint(tmp_path / "16.pt", "train3d", image_size=128)
    with pytest.raises(InputError, match=r"16\.pt was trained on the joints Neck, Head, .*, not chest, shoulder_l"):
        checkpoint.load_network(theirs, "lifting_net", BODY)
    given = ("--checkpoint", theirs, "--data.shards", shards, "--output", tmp_path / "report")
    assert run(monkeypatch, evaluate, *given) == 2


def test_the_bones_of_the_loss_are_the_skeletons():
    predicted, true = torch.rand(2, 15, 3), torch.rand(2, 15, 3)
    terms = PoseLoss(LossWeights(pose=1, cosine=1, bone=1), BODY)(predicted, true)
    lengths = [
        ((predicted[:, end] - predicted[:, start]) - (true[:, end] - true[:, start])).norm(dim=-1)
        for start, end in BODY.bones
    ]
    torch.testing.assert_close(terms["bone"], torch.stack(lengths).sum(0).mean())


def test_targets_are_drawn_for_the_joints_that_have_heatmaps(shards):
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18"), 128, skeleton=BODY)
    assert stage.build_model().final_layer.out_channels == 14
    lifted = Train3d(ModelConfig(), 128, skeleton=BODY).build_model()(torch.rand(2, 14, 16, 16))
    assert [tuple(part.shape) for part in lifted] == [(2, 15, 3), (2, 14, 16, 16)]
