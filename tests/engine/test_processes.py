"""Several processes: the same result as one, and what happens when one is lost."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from engine.config import parse_train
from engine.distributed import Process, join_processes
from engine.trainer import Trainer
from tests.engine.training_runs import finish, flags, read_metrics, same, start, weights
from tests.processes import children_of
from tests.shard_factory import make_shard_set

STAGES = ("train2d", "train3d", "finetune")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("processes") / "shards", {"train": 18, "val": 5}, image_size=64)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gradients(arguments, process, trained=False):
    """Return the gradients of one step."""
    trainer = Trainer(parse_train(arguments), process)
    learner = trainer.learner
    learner.model.train(trained)  # BatchNorm's statistics are those of a part; fixed, the sums must agree
    found = {}
    learner.optimizer.step = lambda *_, **__: found.update(
        {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}
    )
    trainer.train_step(next(iter(trainer.loader)))
    trainer.close()
    return found


def half(rank, port, arguments, trained, output):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join_processes("cpu", 60) as process:
        found = gradients(arguments, process, trained)
        if process.is_main:
            torch.save(found, output)


def halves(arguments, trained, output):
    torch.multiprocessing.spawn(half, (free_port(), arguments, trained, output), nprocs=2)
    return torch.load(output)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("trained", [False, True], ids=["statistics fixed", "statistics of each half"])
def test_two_processes_on_halves_have_the_gradient_of_the_whole(tmp_path, shards, stage, trained):
    one, two = flags(shards, tmp_path / "one", stage), flags(shards, tmp_path / "two", stage, "--data.batch-size", "2")
    if trained:  # one process that takes the batch in two parts has the same statistics
        one += ["--optim.micro-batches", "2"]
    whole = gradients(one, Process(0, 1, torch.device("cpu")), trained)
    parts = halves(two, trained, tmp_path / "gradients.pt")
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=2e-4 * scale)


def test_two_agents_equal_one_with_two_processes(tmp_path, shards):
    """As two machines would; they need no common folder: the second one's is its own."""
    more = ("--data.batch-size", "2", "--epochs", "2", "--data.augment.rotation", "20", "--distributed.timeout", "60")
    more += ("--optim.schedule", "constant")  # the same whether the end is known or not
    finish(start(flags(shards, tmp_path / "one", "finetune", *more), processes=2))
    endpoint = f"127.0.0.1:{free_port()}"
    launcher = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint)
    for epochs in ("1", "2"):  # the second time they resume
        arguments = [*more, "--resume"] if epochs == "2" else [*more, "--max-steps", "5"]
        agents = [
            start(
                flags(shards, tmp_path / f"agent-{n}", "finetune", *arguments),
                launcher=(*launcher, "--rdzv-id", epochs),
            )
            for n in (0, 1)
        ]
        for agent in agents:
            finish(agent)
    wrote = [n for n in (0, 1) if (tmp_path / f"agent-{n}/last.pt").exists()]
    assert len(wrote) == 1
    assert same(weights(tmp_path / "one"), weights(tmp_path / f"agent-{wrote[0]}"))


def workers(process):
    """Return the process numbers of torchrun's workers by rank."""
    found = {}
    for pid in children_of(process):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks = [int(entry[5:]) for entry in environment if entry.startswith(b"RANK=")]
        found |= dict.fromkeys(ranks, pid)
    return found


def wait_for_step(process, run_dir, step):
    while max((entry["step"] for entry in read_metrics(run_dir / "metrics.jsonl")), default=-1) < step:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_job(tmp_path, shards, victim):
    arguments = flags(shards, tmp_path / "run", "train3d", "--epochs", "100000", "--data.batch-size", "2")
    process = start(arguments, processes=2)
    wait_for_step(process, tmp_path / "run", 6)
    os.kill(workers(process)[victim], signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode != 0
    cause = output[output.index("Root Cause") :]
    assert re.search(rf"rank +: {victim} ", cause)
    assert "Signal 9" in cause


def test_a_process_that_hangs_is_named_within_the_time_out(tmp_path, shards):
    more = ("--epochs", "100000", "--data.batch-size", "2", "--distributed.timeout", "5")
    process = start(flags(shards, tmp_path / "run", "train3d", *more), 2, ("--shutdown-timeout", "3"))
    wait_for_step(process, tmp_path / "run", 6)
    os.kill(workers(process)[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=90)
    assert process.returncode != 0
    assert "process 1 of 2 did not answer within 5 s" in output


def test_processes_that_are_restarted_resume_by_themselves(tmp_path, shards):
    more = ("--epochs", "20", "--data.batch-size", "2", "--checkpoint-every", "3", "--data.augment.rotation", "20")
    finish(start(flags(shards, tmp_path / "whole", "train3d", *more), processes=2))
    process = start(flags(shards, tmp_path / "run", "train3d", *more), 2, ("--max-restarts", "1"))
    wait_for_step(process, tmp_path / "run", 8)
    os.kill(workers(process)[1], signal.SIGKILL)
    finish(process)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_an_error_of_one_process_is_shown_by_all(tmp_path, shards):
    more = ("--data.batch-size", "2", "--optim.lr", "1e30", "--log-every", "1")
    process = start(flags(shards, tmp_path / "run", "train2d", *more), processes=2)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "the loss is not finite at step" in output


def test_compressed_gradients_train(tmp_path, shards):
    more = ("--data.batch-size", "2", "--epochs", "3", "--distributed.compress-gradients")
    finish(start(flags(shards, tmp_path / "run", "train3d", *more), processes=2))
    losses = [e["train/loss"] for e in read_metrics(tmp_path / "run/metrics.jsonl") if "train/loss" in e]
    assert losses[-1] < losses[0]
