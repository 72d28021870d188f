"""Runs that are stopped or killed at random moments, and go on to the same weights, bit for bit."""

import random
import signal
import time

import pytest
import torch

from engine.precision import is_native
from tests.engine.training_runs import finish, flags, read_metrics, same, start, weights
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

ROUNDS = 4
"""Interruptions of each run: 24 in all where bf16 is native."""
STEPS = 16
RUNS = [(stage, "fp32") for stage in ("train2d", "train3d", "finetune")] + [("train3d", "bf16")]
if is_native("bf16", torch.device("cpu")):  # emulated, a step of a convolutional network takes seconds
    RUNS += [("train2d", "bf16"), ("finetune", "bf16")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("interrupted") / "shards", {"train": 18, "val": 3}, image_size=64)


def wait_for_entries(process, metrics, entries):
    while len(read_metrics(metrics)) < entries and process.poll() is None:
        time.sleep(0.002)


def wait_for_writing(process, run_dir):
    while not any(run_dir.glob("last.pt.*.partial")) and process.poll() is None:
        pass


@pytest.mark.parametrize(("stage", "precision"), RUNS)
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path, shards, stage, precision):
    more = ["--max-steps", str(STEPS), "--epochs", "10", "--precision", precision, "--data.augment.rotation", "20"]
    more += ["--checkpoint.every", "3", "--log-every", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(start(flags(shards, whole, stage, *more)))
    total = len(read_metrics(whole / "metrics.jsonl"))
    chance = random.Random(f"{stage} {precision}")
    ways = ["term", "int", "kill", "kill while writing"]
    moments = sorted(chance.randrange(2, total) for _ in range(ROUNDS))
    for way, moment in zip(chance.sample(ways, ROUNDS), moments, strict=True):
        process = start(flags(shards, parts, stage, *more, "--resume"))
        wait_for_entries(process, parts / "metrics.jsonl", moment)
        if way == "kill while writing":
            wait_for_writing(process, parts)
        number = {"term": signal.SIGTERM, "int": signal.SIGINT}.get(way, signal.SIGKILL)
        process.send_signal(number)
        output, _ = process.communicate(timeout=240)
        # it may have been at its end already, where nothing is left to save
        assert process.returncode in (0, -number, 128 + number), output
    finish(start(flags(shards, parts, stage, *more, "--resume")))
    assert same(weights(whole), weights(parts))
    assert same(weights(whole, "best.pt"), weights(parts, "best.pt"))
    logs = [read_metrics(run_dir / "metrics.jsonl") for run_dir in (whole, parts)]
    for a, b in zip(*logs, strict=True):
        assert {k: v for k, v in a.items() if "speed" not in k} == {k: v for k, v in b.items() if "speed" not in k}
