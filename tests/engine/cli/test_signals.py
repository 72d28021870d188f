"""Signals: answered at once, obeyed by all processes alike, within validation and evaluation too."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.cli.signals import Signals, Stopped
from engine.config import parse_train
from engine.distributed import Process
from engine.training.preemption import Preemption
from engine.training.trainer import Trainer
from tests.checkpoint_factory import make_checkpoint
from tests.engine.training_runs import flags, free_port, joined, read_metrics, run, same, start, weights
from tests.processes import children_of
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("signals") / "shards", {"train": 8, "val": 6}, image_size=64)


@pytest.fixture(scope="module")
def long_shards(tmp_path_factory):
    """Return shards whose validation takes a minute with one sample in a batch."""
    return make_shard_set(
        tmp_path_factory.mktemp("signals") / "shards",
        {"train": 8, "val": 3000, "test": 1500},
        image_size=64,
        samples_per_shard=1000,
        image_format="raw",
    )


def catches(pid, number):
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) & 1 << number - 1)


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


def start_python(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


STUCK = """
import ctypes
from engine.cli.signals import Signals
Signals(lambda name: print(name, flush=True))
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
for _ in range(2):  # the second time waits for ever, in C
    libc.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_one_ends_at_once_whatever_the_main_thread_does(number):
    process = start_python("-c", STUCK)
    wait_until(lambda: catches(process.pid, signal.SIGHUP), process)
    process.send_signal(signal.SIGHUP)  # it may come twice from one event, and is never a second one
    assert process.stdout.readline() == "SIGHUP\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(number)
    assert process.wait(60) == 128 + number


def test_the_same_one_within_a_second_is_an_echo():
    process = start_python("-c", STUCK)
    wait_until(lambda: catches(process.pid, signal.SIGHUP), process)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "SIGTERM\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM


def test_what_nohup_ignores_stays_ignored():
    process = subprocess.Popen(["nohup", sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: catches(process.pid, signal.SIGTERM), process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "SIGTERM\n"
    process.kill()
    process.communicate()


def test_an_interrupted_validation_changes_nothing(tmp_path, monkeypatch, caplog, shards):
    more = ("--epochs", "4", "--data.augment.rotation", "20", "--checkpoint.every", "3")
    assert run(monkeypatch, *flags(shards, tmp_path / "whole", "train3d", *more)) == 0
    trainer = Trainer(
        parse_train(flags(shards, tmp_path / "parts", "train3d", *more)), Process(0, 1, torch.device("cpu"))
    )
    validate = trainer.validate

    def interrupted():
        if trainer.step == 4:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
        validate()

    monkeypatch.setattr(trainer, "validate", interrupted)
    with caplog.at_level(logging.INFO):
        assert trainer.fit() == signal.SIGHUP
    trainer.close()
    assert "SIGHUP: ending with a checkpoint" in caplog.text
    assert run(monkeypatch, *flags(shards, tmp_path / "parts", "train3d", *more, "--resume")) == 0
    for name in ("last.pt", "best.pt"):
        assert same(weights(tmp_path / "whole", name), weights(tmp_path / "parts", name))
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    for a, b in zip(*logs, strict=True):
        assert {k: v for k, v in a.items() if "speed" not in k} == {k: v for k, v in b.items() if "speed" not in k}


@pytest.mark.network
@pytest.mark.parametrize("processes", [0, 2])
def test_a_long_validation_is_left(tmp_path, long_shards, processes):
    """Under torchrun the signal comes to one process alone, which is not the main one."""
    run_dir = tmp_path / "run"
    process = start(flags(long_shards, run_dir, "train3d", "--data.batch-size", "1"), processes)
    wait_until((run_dir / "last.pt").exists, process)
    victim = children_of(process)[-1] if processes else process.pid
    os.kill(victim, signal.SIGHUP)
    output, _ = process.communicate(timeout=240)
    assert "SIGHUP: ending with a checkpoint" in output
    assert process.returncode == (1 if processes else 129), output
    assert checkpoint.load(run_dir / "last.pt").step == 0
    assert read_metrics(run_dir / "metrics.jsonl") == []


@pytest.mark.network
@pytest.mark.parametrize(("processes", "number"), [*((0, number) for number in NUMBERS), (2, signal.SIGTERM)])
def test_an_evaluation_is_left(tmp_path, long_shards, processes, number):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes) if processes else ()
    arguments = ["--checkpoint", make_checkpoint(tmp_path / "best.pt"), "--data.shards", long_shards]
    arguments += ["--output", tmp_path / "report", "--data.batch-size", "1", "--device", "cpu"]
    process = start_python(*launcher, "engine/evaluate.py", *arguments)

    def ready():
        pids = children_of(process) if processes else [process.pid]
        return len(pids) >= processes and all(catches(pid, signal.SIGHUP) for pid in pids)

    wait_until(ready, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=240)
    assert output.count(f"evaluate: {number.name}: ending without a report") == 1, output
    assert "Traceback" not in output or processes  # torchrun shows its own
    assert process.returncode == (1 if processes else 128 + number), output
    assert not (tmp_path / "report").exists()


def exchanges(rank, port):
    """Exchange where one process has more batches than the other, then with a signal to the other alone."""
    with joined(rank, port) as process:
        preemption = Preemption(process, lambda _: None)
        preemption.exchange(checkpoint=True)  # in flight when the batches begin
        assert [*preemption.batches(range(3 + 2 * rank))] == [*range(3 + 2 * rank)]
        assert [*preemption.batches(range(2 * rank))] == [*range(2 * rank)]
        preemption.exchange(checkpoint=rank == 1)
        requests = preemption.exchange()
        assert (requests.signal, requests.checkpoint) == (0, True)
        seen = []
        with pytest.raises(Stopped) as stopped:
            for number in preemption.batches(range(100)):
                seen.append(number)
                if rank == 1 and number == 5:
                    os.kill(os.getpid(), signal.SIGHUP)
                    time.sleep(0.1)
        assert stopped.value.number == signal.SIGHUP
        assert process.gather(len(seen)) == [len(seen)] * 2
        assert len(seen) < 10
        preemption.close()


@pytest.mark.network
def test_processes_agree_though_their_batches_differ():
    torch.multiprocessing.spawn(exchanges, (free_port(),), nprocs=2)


def test_a_signal_before_the_work_begins_is_answered_too():
    answers = []
    signals = Signals(answers.append, raises=True)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, signals:
        raise AssertionError("the work has begun")
    assert stopped.value.number == signal.SIGTERM
    assert answers == ["SIGTERM"]
