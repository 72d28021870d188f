"""Training, as a user starts it: the three stages, alone and under torchrun, stopped and resumed."""

import dataclasses
import json
import signal
import time

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.checkpoint import format as checkpoint
from engine.config import parse_train
from engine.distributed import Process
from engine.training.preemption import Requests
from engine.training.trainer import Trainer
from loaders import ShardSet, build_loader
from tests.engine.training_runs import flags, read_metrics, run, same, start, weights
from tests.shard_factory import make_shard_set, spoil_images

pytestmark = pytest.mark.slow

STAGES = ("train2d", "train3d", "finetune")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("train") / "shards", {"train": 18, "val": 5}, image_size=64)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_and_leaves_what_is_promised(tmp_path, monkeypatch, shards, stage):
    run_dir = tmp_path / "run"
    assert run(monkeypatch, *flags(shards, run_dir, stage, "--epochs", "3")) == 0
    assert {"config.yaml", "metrics.jsonl", "last.pt", "best.pt", "summary.json"} <= {p.name for p in run_dir.iterdir()}
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["steps"] == 12
    assert summary["images_per_second"] > 0
    entries = read_metrics(run_dir / "metrics.jsonl")
    assert [e["step"] for e in entries if "train/loss" in e] == [2, 4, 6, 8, 10, 12]
    assert [e["step"] for e in entries if "val/loss" in e] == [0, 4, 8, 12]
    assert all(np.isfinite(v) for e in entries for v in e.values())
    assert summary["last_validation"]["loss"] < summary["first_validation"]["loss"]
    board = EventAccumulator(str(run_dir))
    board.Reload()
    assert {"train/loss", "train/lr", "speed/images_per_second", "speed/data_wait_share", "val/loss"} <= set(
        board.Tags()["scalars"]
    )
    assert board.Tags()["images"] == ["val/examples"]
    again = parse_train(["--config", str(run_dir / "config.yaml")])
    assert again.stage == stage


def test_finetune_begins_with_both_networks(tmp_path, monkeypatch, shards):
    for stage, name in (("train2d", "2d"), ("train3d", "3d")):
        assert run(monkeypatch, *flags(shards, tmp_path / name, stage, "--max-steps", "2")) == 0
    config = parse_train(
        flags(
            shards,
            tmp_path / "full",
            "finetune",
            *("--load-2d", str(tmp_path / "2d/best.pt")),
            *("--load-3d", str(tmp_path / "3d/best.pt")),
        )
    )
    trainer = Trainer(config, Process(0, 1, torch.device("cpu")))
    trainer.close()
    expected = weights(tmp_path / "2d", "best.pt") | weights(tmp_path / "3d", "best.pt")
    found = {
        f"{name}.{key}": tensor
        for name, net in trainer.stage.networks(trainer.learner.model).items()
        for key, tensor in net.state_dict().items()
    }
    assert same(found, expected)


@pytest.mark.network
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train(tmp_path, shards, stage):
    process = start(flags(shards, tmp_path / "run", stage, "--epochs", "2", "--data.batch-size", "2"), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["processes"] == 2
    assert summary["steps"] == 8
    assert summary["last_validation"]["loss"] < summary["first_validation"]["loss"]


@pytest.mark.network
def test_skipped_samples_keep_processes_in_step_and_are_counted(tmp_path):
    shards = make_shard_set(tmp_path / "shards", {"train": 18, "val": 5}, image_size=64)
    spoil_images(shards, "train", {3, 11})
    spoil_images(shards, "val", {4})
    common = ("--epochs", "2", "--data.batch-size", "2", "--data.on-bad-sample")
    refused = start(flags(shards, tmp_path / "refused", "train2d", *common, "fail"), processes=2)
    output, _ = refused.communicate(timeout=240)
    assert refused.returncode != 0
    assert "rgba.jpg at byte" in output
    process = start(flags(shards, tmp_path / "run", "train2d", *common, "skip"), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["steps"], summary["skipped_samples"]) == (8, 3)
    assert output.count("skipped: ") == 3
    assert "validation on 4 frames" in output


@pytest.mark.network
def test_two_processes_on_halves_equal_one_on_the_whole(tmp_path, monkeypatch, shards):
    """Without BatchNorm (train3d) the same global batches must give the same weights."""
    one, two = tmp_path / "one", tmp_path / "two"
    common = ("--max-steps", "3", "--optim.name", "sgd", "--optim.lr", "0.1")
    assert run(monkeypatch, *flags(shards, one, "train3d", *common)) == 0
    process = start(flags(shards, two, "train3d", *common, "--data.batch-size", "2"), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    a, b = weights(one), weights(two)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)
    val_a, val_b = (read_metrics(p / "metrics.jsonl")[-1]["val/mpjpe_mm"] for p in (one, two))
    assert val_a == pytest.approx(val_b, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_grad_accum_steps_give_the_whole_batchs_gradient(shards, tmp_path, stage):
    gradients = []
    for parts in ("1", "2"):
        more = ("--optim.grad-accum-steps", parts, "--optim.name", "sgd")
        config = parse_train(flags(shards, tmp_path / parts, stage, *more))
        trainer = Trainer(config, Process(0, 1, torch.device("cpu")))
        trainer.learner.model.eval()  # BatchNorm's statistics are those of a micro-batch; fixed, the sums must agree
        before = {k: v.clone() for k, v in trainer.learner.model.state_dict().items()}
        batch = next(iter(trainer.loader))
        trainer.train_step(batch)
        gradients.append({k: v - before[k] for k, v in trainer.learner.model.state_dict().items()})
        trainer.close()
    for key in gradients[0]:
        torch.testing.assert_close(gradients[0][key], gradients[1][key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("stage", "precision"), [("finetune", "fp32"), ("train3d", "bf16")])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch, shards, stage, precision):
    more = ("--epochs", "3", "--precision", precision, "--data.augment.rotation", "20", "--checkpoint.every", "3")
    assert run(monkeypatch, *flags(shards, tmp_path / "whole", stage, *more)) == 0
    config = parse_train(flags(shards, tmp_path / "parts", stage, *more))
    trainer = Trainer(config, Process(0, 1, torch.device("cpu")))
    exchange = trainer.preemption.exchange
    monkeypatch.setattr(
        trainer.preemption,
        "exchange",
        lambda **own: Requests(signal.SIGTERM) if trainer.step == 6 else exchange(**own),
    )
    assert trainer.fit() == signal.SIGTERM
    trainer.close()
    assert run(monkeypatch, *flags(shards, tmp_path / "parts", stage, *more, "--resume")) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    steps = [[e["step"] for e in log] for log in logs]
    assert steps[0] == steps[1]


def test_a_killed_run_resumes_to_the_same_weights_and_the_same_log(tmp_path, shards):
    more = ("--epochs", "12", "--checkpoint.every", "3", "--data.augment.rotation", "20")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(flags(shards, whole, "train3d", *more)).wait(120) == 0
    for entries in (6, 14):
        process = start(flags(shards, parts, "train3d", *more, "--resume"))
        while not (parts / "metrics.jsonl").exists() or len(read_metrics(parts / "metrics.jsonl")) < entries:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert start(flags(shards, parts, "train3d", *more, "--resume")).wait(120) == 0
    assert same(weights(whole), weights(parts))
    logs = [read_metrics(run_dir / "metrics.jsonl") for run_dir in (whole, parts)]
    for a, b in zip(*logs, strict=True):
        assert {k: v for k, v in a.items() if "speed" not in k} == {k: v for k, v in b.items() if "speed" not in k}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_ends(tmp_path, shards, number, status):
    run_dir = tmp_path / "run"
    process = start(flags(shards, run_dir, "train3d", "--epochs", "100000"))
    while not (run_dir / "metrics.jsonl").exists() or len(read_metrics(run_dir / "metrics.jsonl")) < 5:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) == status
    assert checkpoint.load(run_dir / "last.pt").step > 0


def test_a_non_finite_loss_stops_the_run(tmp_path, monkeypatch, capsys, shards):
    status = run(monkeypatch, *flags(shards, tmp_path / "run", "train2d", "--optim.lr", "1e30"))
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 1
    assert "the loss is not finite" in message
    assert "lower optim.lr" in message
    assert any(ShardSet(shards, "train").key(i) in message for i in range(18))
    assert str(tmp_path / "run/errors/rank-0.log") in message


def test_errors_are_one_line_and_status_2(tmp_path, monkeypatch, capsys, shards):
    empty = make_shard_set(tmp_path / "empty", {"train": 0, "val": 0})
    assert run(monkeypatch, *flags(shards, tmp_path / "run", "train3d", "--max-steps", "1")) == 0
    capsys.readouterr()
    cases = {
        "already holds a run": flags(shards, tmp_path / "run", "train3d"),
        "is a train3d run, not train2d": flags(shards, tmp_path / "run", "train2d", "--resume"),
        "is no finished shard set": flags(tmp_path / "absent", tmp_path / "a", "train2d"),
        "has no samples": flags(empty, tmp_path / "b", "train2d"),
        "--epochs": flags(shards, tmp_path / "c", "train2d", "--epochs", "few"),
        "--epoch": flags(shards, tmp_path / "d", "train2d", "--epoch", "3"),
        "absent.pt does not exist": flags(shards, tmp_path / "e", "finetune", "--load-2d", "absent.pt"),
        "holds no heatmap_net": flags(shards, tmp_path / "f", "finetune", "--load-2d", str(tmp_path / "run/last.pt")),
        "train2d does not train": flags(shards, tmp_path / "g", "train2d", "--load-3d", str(tmp_path / "run/last.pt")),
    }
    for words, arguments in cases.items():
        assert run(monkeypatch, *arguments) == 2, words
        said = capsys.readouterr().err
        assert words in said
        assert len(said.strip().splitlines()) == 1, said


def test_pretrained_backbones(tmp_path, shards):
    import torchvision

    backbone = torchvision.models.resnet18()
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    config = parse_train(
        flags(shards, tmp_path / "run", "train2d", "--model.pretrained", str(tmp_path / "backbone.pth"))
    )
    trainer = Trainer(config, Process(0, 1, torch.device("cpu")))
    trainer.close()
    assert torch.equal(trainer.learner.model.state_dict()["layer4.1.conv2.weight"], backbone.layer4[1].conv2.weight)


class SlowLoader:
    """Waits before every batch."""

    def __init__(self, loader, seconds):
        self._loader = loader
        self._seconds = seconds

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def __len__(self):
        return len(self._loader)

    def __iter__(self):
        for batch in self._loader:
            time.sleep(self._seconds)
            yield batch


def test_a_run_shorter_than_the_log_interval_reports_its_rate(tmp_path, shards):
    config = parse_train(flags(shards, tmp_path / "run", "train3d", "--max-steps", "3", "--log-every", "50"))
    trainer = Trainer(
        config, Process(0, 1, torch.device("cpu")), build=lambda *a, **k: SlowLoader(build_loader(*a, **k), 0.5)
    )
    checkpoint_wait = trainer.checkpointer.wait
    trainer.checkpointer.wait = lambda: (time.sleep(5), checkpoint_wait())  # no part of the time
    before = time.perf_counter()
    assert trainer.fit() == 0
    seconds = time.perf_counter() - before
    trainer.close()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert 12 / seconds < summary["images_per_second"] <= 12 / 1.5
    assert 0 < summary["data_wait_share"] <= 1
    assert 0.5 < summary["checkpoint_share"] < 1  # those 5 seconds, once at the first step and once at the end
    unmeasured = dict.fromkeys(("images_per_second", "data_wait_share", "checkpoint_share"))
    assert run_again(config) == summary | unmeasured


def run_again(config):
    """Resume a run that is at its end, and return its summary: no step, no rate."""
    trainer = Trainer(dataclasses.replace(config, resume=True), Process(0, 1, torch.device("cpu")))
    assert trainer.fit() == 0
    trainer.close()
    return json.loads((config.run_dir / "summary.json").read_text())
