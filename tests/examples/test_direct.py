"""The network in examples/direct.py trains in a stage of the engine, stops, goes on and is evaluated."""

import json
import sys
import time

import numpy as np
import pytest

from engine import evaluate, infer
from loaders.codecs import encode
from tests.engine.training_runs import finish, flags, read_metrics, same, start, weights
from tests.shard_factory import make_shard_set
from tools import export

pytestmark = pytest.mark.slow

NETWORK = ("--model.network", "examples/direct.py:DirectNet", "--data.window", "3", "--data.stride", "2")
MORE = (*NETWORK, "--precision", "bf16", "--optim.ema", "0.9", "--data.augment.rotation", "20", "--epochs", "8")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    counts = {"train": 12, "val": 9, "test": 10}
    return make_shard_set(tmp_path_factory.mktemp("direct") / "shards", counts, image_size=64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shards):
    run_dir = tmp_path_factory.mktemp("run") / "run"
    finish(start(flags(shards, run_dir, "finetune", *MORE, "--checkpoint.every", "3")))
    return run_dir


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, shards, trained):
    more = (*MORE, "--checkpoint.every", "3")
    process = start(flags(shards, tmp_path / "run", "finetune", *more))
    while len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < 5:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.wait()
    finish(start(flags(shards, tmp_path / "run", "finetune", *more, "--resume")))
    assert same(weights(trained), weights(tmp_path / "run"))


def test_what_it_does_not_predict_is_not_in_its_loss(trained):
    (first, *_, last) = [entry for entry in read_metrics(trained / "metrics.jsonl") if "val/mpjpe_mm" in entry]
    assert not [name for name in first if "heatmap" in name or "error_px" in name]
    assert last["val/loss"] < first["val/loss"]
    assert json.loads((trained / "summary.json").read_text())["gflop_per_image"] > 0


def test_evaluation_names_the_network(tmp_path, monkeypatch, shards, trained):
    where = ("--data.shards", str(shards), "--split", "test", "--output", str(tmp_path / "report"))
    monkeypatch.setattr(sys, "argv", ["evaluate", "--checkpoint", str(trained / "best.pt"), *where])
    assert evaluate.main() == 0
    evaluation = json.loads((tmp_path / "report" / "metrics.json").read_text())["evaluation"]
    assert (evaluation["stage"], evaluation["backbone"], evaluation["network"]) == ("finetune", None, NETWORK[1])
    assert f"finetune, {NETWORK[1]}," in (tmp_path / "report" / "report.html").read_text()


def test_it_is_used_and_exported(tmp_path, monkeypatch, capsys, trained):
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(encode(image, ".png"))
    given = ("--input", str(tmp_path / "*.png"), "--output", str(tmp_path / "out"), "--sequence", "--precision", "fp32")
    monkeypatch.setattr(sys, "argv", ["infer", "--checkpoint", str(trained / "best.pt"), *given])
    assert infer.main() == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    expected = infer.load_model(trained / "best.pt", precision="fp32")(images).joints_3d
    assert [entry["confidence"]["Neck"] for entry in found] == [None] * 6
    poses = np.array([list(entry["joints_3d_m"].values()) for entry in found])
    np.testing.assert_allclose(poses, expected, atol=1e-5)
    for ending in ("onnx", "pt2"):
        output = str(tmp_path / f"net.{ending}")
        monkeypatch.setattr(sys, "argv", ["export", "--checkpoint", str(trained / "best.pt"), "--output", output])
        assert export.main() == 0
        said = capsys.readouterr().out
        assert (
            "uint8 (batch, 3, 3, 64, 64) RGB, window 3 frames, stride 2, the last one is predicted; gives joints_3d"
            in said
        )
