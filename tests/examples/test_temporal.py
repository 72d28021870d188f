"""The stages in examples/temporal.py train, stop, go on and are evaluated like those of the engine."""

import json
import sys
import time

import numpy as np
import pytest

from engine import evaluate
from engine.infer import main as infer
from loaders.codecs import encode
from tests.engine.training_runs import finish, flags, read_metrics, run, same, start, weights
from tests.shard_factory import make_shard_set
from tools import export

pytestmark = pytest.mark.slow

STAGE, STEADY = "examples/temporal.py:Temporal", "examples/temporal.py:SteadyTemporal"
WINDOW = ("--data.window", "3", "--data.stride", "2")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    counts = {"train": 20, "val": 9, "test": 10}
    return make_shard_set(tmp_path_factory.mktemp("temporal") / "shards", counts, image_size=64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shards):
    run_dir = tmp_path_factory.mktemp("run") / "run"
    finish(start(flags(shards, run_dir, STEADY, *WINDOW, "--epochs", "2", "--data.batch-size", "2"), processes=2))
    return run_dir


def call(main, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    return main()


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, shards):
    more = (*WINDOW, "--epochs", "8", "--checkpoint.every", "3", "--data.augment.rotation", "20", "--optim.ema", "0.9")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(start(flags(shards, whole, STAGE, *more)))
    process = start(flags(shards, parts, STAGE, *more))
    while len(read_metrics(parts / "metrics.jsonl")) < 5:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.wait()
    finish(start(flags(shards, parts, STAGE, *more, "--resume")))
    assert same(weights(whole), weights(parts))


def test_a_loss_of_ones_own_is_logged_by_its_terms(trained):
    entries = read_metrics(trained / "metrics.jsonl")
    logged = [entry for entry in entries if "train/loss" in entry]
    assert logged
    assert all(entry["train/loss/velocity"] > 0 for entry in logged)
    assert any("val/loss/velocity" in entry for entry in entries)
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["best"].keys() == {"mpjpe_mm"}
    assert summary["gflop_per_image"] > 0


def test_evaluation_sees_each_window_once(tmp_path, monkeypatch, capsys, shards, trained):
    where = ("--data.shards", shards, "--split", "test", "--output", tmp_path / "report")
    assert call(evaluate.main, monkeypatch, "--checkpoint", trained / "best.pt", *where) == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["frames"] == 10 - 4
    assert metrics["evaluation"]["stage"] == STEADY
    assert "4 of 10 frames end no window of 3 frames, 2 apart: they are left out" in metrics["evaluation"]["notes"]
    assert "6 frames" in capsys.readouterr().out


def test_what_takes_images_says_that_this_takes_none(tmp_path, monkeypatch, capsys, trained):
    (tmp_path / "frame.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8), ".png"))
    cases = {
        infer: ("--checkpoint", trained / "best.pt", "--input", tmp_path, "--output", tmp_path / "out"),
        export.main: ("--checkpoint", trained / "best.pt", "--output", tmp_path / "model.onnx"),
    }
    for main, arguments in cases.items():
        assert call(main, monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert f"best.pt is a {STEADY} checkpoint" in said
        assert len(said.strip().splitlines()) == 1, said


def test_the_same_stage_sees_single_frames(tmp_path, monkeypatch, shards):
    assert run(monkeypatch, *flags(shards, tmp_path / "run", STAGE, "--epochs", "1")) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 5
