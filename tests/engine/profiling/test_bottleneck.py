"""What is said to hold a run: each stage throttled in turn in real trainings, and cases made of numbers."""

import contextlib
import json
import os
import re
import time
from collections import Counter

import cv2
import pytest
import torch
import torch.multiprocessing

import engine.training.trainer
from engine.checkpoint.checkpointer import Checkpointer
from engine.cli.flags import keys_of
from engine.config import TrainConfig, parse_train
from engine.distributed import Process
from engine.profiling.bottleneck import _remedies, find_bottleneck
from engine.profiling.throughput import Rate
from engine.training.preemption import Requests
from engine.training.run import Run
from engine.training.trainer import Trainer
from loaders import Loader, PoseBatch, torch_loader
from loaders.dali.pipeline import Pipelines
from loaders.stage_times import STAGES, Crew, LoaderWork
from models.heatmap_net import HeatmapNet
from tests.engine.training_runs import flags, free_port, joined
from tests.shard_factory import make_shard_set
from tools.shard import ShardFlags

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PAUSE = 0.4
"""Of what is throttled, at least (seconds)."""
TIMES = {"decode": 0.5, "warp": 0.5, "raw": 0.5, "graph": 4, "validation": 4, "checkpoints": 4}
"""Times as long, for what is not done once in each step: the first three are done for each of two images, and a graph
takes the batches of an epoch at once."""
SHORT = ("--data.batch-size", "2", "--max-steps", "8", "--epochs", "9", "--validate-every", "9")
"""Epochs of four steps, the first two of the run being its warm-up."""
THROTTLED = {
    "read": ("train2d", "jpeg", Loader, "_read_ahead", ()),
    "decode": ("train2d", "jpeg", torch_loader, "decode_stored", ()),
    "warp": ("train2d", "jpeg", cv2, "warpAffine", ("--data.augment.rotation", "20")),
    "raw": ("train2d", "raw", torch_loader, "gather_past_cache", ()),
    "graph": ("train2d", "jpeg", Pipelines, "run", ("--data.backend", "dali", "--max-steps", "16")),
    "labels": ("train3d", "jpeg", Loader, "_label_batch", ()),
    "copy": ("train2d", "jpeg", PoseBatch, "to", ()),
    "network": ("train2d", "jpeg", HeatmapNet, "forward", ()),
    "validation": ("train2d", "jpeg", engine.training.trainer, "validate", ("--validate-every", "1")),
    "checkpoints": ("train2d", "jpeg", Checkpointer, "write", ("--checkpoint.every", "3")),
}
"""What holds a run -> its stage, its shards, the function that is slow, more flags."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return {
        image_format: make_shard_set(
            tmp_path_factory.mktemp(image_format) / "shards", {"train": 8, "val": 2}, image_format=image_format
        )
        for image_format in ("jpeg", "raw")
    }


def throttle(owner, name, monkeypatch, times=1):
    """Make a function wait thrice as long as the first step takes, so that it holds a run on a busy machine as well."""
    real, update, steps = getattr(owner, name), Run.update, []

    def slow(*args, **kwargs):
        time.sleep(times * max(PAUSE, 3 * steps[0] if steps else 0))
        return real(*args, **kwargs)

    def timed(*args, **kwargs):
        began = time.perf_counter()
        norm = update(*args, **kwargs)
        steps.append(time.perf_counter() - began)
        return norm

    monkeypatch.setattr(owner, name, slow)
    monkeypatch.setattr(Run, "update", timed)
    # neither is the disk what is throttled
    monkeypatch.setattr(os, "fsync", lambda file: None)


def train(arguments, process):
    with contextlib.closing(Trainer(parse_train(arguments), process)) as trainer:
        assert trainer.fit() == 0


@pytest.mark.slow
@pytest.mark.parametrize("what", THROTTLED)
def test_a_throttled_stage_is_named(tmp_path, monkeypatch, caplog, shards, what):
    stage, image_format, owner, name, more = THROTTLED[what]
    throttle(owner, name, monkeypatch, TIMES.get(what, 1))
    with caplog.at_level("INFO"):
        train(flags(shards[image_format], tmp_path / "run", stage, *SHORT, *more), Process(0, 1, CPU))
    found = json.loads((tmp_path / "run/summary.json").read_text())["bottleneck"]
    assert found["what"] == what, found
    assert found["sentence"] in caplog.messages
    assert "this run: " in found["sentence"] and "; try " in found["sentence"]


@pytest.mark.slow
def test_a_run_that_a_signal_ends_says_it_too(tmp_path, caplog, shards):
    trainer = Trainer(parse_train(flags(shards["jpeg"], tmp_path / "run", "train3d", *SHORT)), Process(0, 1, CPU))
    trainer.preemption.exchange = lambda **_: Requests(signal=15 if trainer.step == 5 else 0)
    with contextlib.closing(trainer), caplog.at_level("INFO"):
        assert trainer.fit() == 15
    assert re.search(r"holds? this run: .*; try ", caplog.messages[-1])


@pytest.mark.slow
@pytest.mark.network
def test_the_process_whose_loader_is_slow_is_named(tmp_path, shards):
    arguments = flags(shards["jpeg"], tmp_path / "run", "train2d", *SHORT, "--log-every", "1")
    torch.multiprocessing.spawn(one_of_two, (free_port(), arguments), nprocs=2)
    found = json.loads((tmp_path / "run/summary.json").read_text())["bottleneck"]
    assert found["what"] == "decode"
    assert found["sentence"].startswith("decoding holds this run at process 1: process 1 waited for data")


def one_of_two(rank, port, arguments):
    with joined(rank, port) as process, pytest.MonkeyPatch.context() as monkeypatch:
        if rank == 1:
            throttle(torch_loader, "decode_stored", monkeypatch, TIMES["decode"])
        train(arguments, process)


def config(*more):
    return parse_train(["--stage", "train2d", "--data.shards", "S", "--run-dir", "R", *more])


def of(seconds=10.0, *, work=(), threads=4, **more):
    """Return the rate of a process whose loader has a thread to read, some to decode and warp, and one for the rest."""
    crews = Crew(("read",)), Crew(("decode", "warp"), threads), Crew(("labels", "copy"))
    return Rate(100, seconds, loader=LoaderWork(Counter(dict(work))), crews=crews, **more)


@pytest.mark.parametrize(
    ("work", "stage"),
    [
        ({"read": 9.0, "decode": 12.0, "warp": 12.0}, "read"),  # 9 of 10 seconds; 6 of each of four threads
        ({"read": 5.0, "decode": 12.0, "warp": 14.0}, "warp"),
        ({"read": 5.0, "decode": 1.0, "labels": 4.0, "copy": 5.0}, "copy"),
    ],
)
def test_the_stage_is_that_of_the_busiest_threads(work, stage):
    found = find_bottleneck([of(waited=6.0, work=work)], config(), CPU)
    assert (found.what, found.share) == (stage, 0.6)
    assert found.sentence.startswith(f"{STAGES[stage]} holds this run: it waited for data for 60% of the time")


def test_shares_are_of_the_whole_and_small_ones_hold_nothing():
    found = find_bottleneck([of(waited=1.0, saving=5.0, validating=5.0)], config(), CPU)
    assert (found.what, found.share) == ("checkpoints", 0.25)
    found = find_bottleneck([of(waited=1.9, saving=1.0, validating=1.0)], config(), CPU)
    assert (found.what, found.share) == ("network", pytest.approx(8.1 / 12, abs=1e-4))


def test_host_and_gpu_are_told_apart():
    found = find_bottleneck([of(waited=1.0, device=3.0)], config("--cuda-graph", "never"), GPU)
    assert (found.what, found.share) == ("host", 0.6)
    assert "--cuda-graph always" in found.sentence
    found = find_bottleneck([of(waited=0.5, device=9.0)], config(), GPU)
    assert (found.what, found.share) == ("device", 0.9)
    assert "--cuda-graph" not in found.sentence


def test_a_smaller_network_is_advised_by_the_flag_that_chooses_it():
    assert "a smaller --model.backbone" in find_bottleneck([of()], config(), CPU).sentence
    own = find_bottleneck([of()], config("--model.network", "own.py:Net"), CPU).sentence
    assert "a smaller network" in own
    assert "--model.backbone" not in own


def test_processes_that_wait_for_one_another():
    slow_link = [of(exchanging=4.0), of(exchanging=5.0)]
    found = find_bottleneck(slow_link, config(), CPU)
    assert (found.what, found.share) == ("exchange", 0.4)
    assert "--distributed.compress-gradients" in found.sentence
    slow_machine = [of(exchanging=6.0), of(exchanging=0.5), of(exchanging=5.0)]
    assert find_bottleneck(slow_machine, config(), CPU).sentence.startswith("process 1 holds this run")
    # its others wait, but it waits for data
    slow_loader = [of(exchanging=6.0), of(exchanging=0.5, waited=6.0, work={"decode": 30.0}), of(exchanging=5.5)]
    assert find_bottleneck(slow_loader, config(), CPU).sentence.startswith("decoding holds this run at process 1")


@pytest.mark.parametrize("device", [CPU, GPU])
def test_remedies_are_flags_that_there_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    known = {key.replace("_", "-") for key in (*dict(keys_of(TrainConfig)), *dict(keys_of(ShardFlags)))}
    flags = ("--data.threads", "1", "--precision", "fp32", "--cuda-graph", "never", "--checkpoint.every", "9")
    remedies = _remedies(config(*flags), device, 1)
    assert set(STAGES) < set(remedies)
    for texts in remedies.values():
        assert any(texts)
        assert set(re.findall(r"--([\w.-]+\w)", " ".join(texts))) <= known
