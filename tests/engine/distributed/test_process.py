"""Several processes: the same result as one, and what happens when one is lost."""

import itertools
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from engine import distributed
from engine.checkpoint import format as checkpoint
from engine.config import parse_train
from engine.distributed import Process
from engine.training.trainer import Trainer
from loaders import InputError
from loaders.errors import Failure
from tests.engine.training_runs import finish, flags, free_port, joined, read_metrics, same, start, weights
from tests.processes import children_of
from tests.shard_factory import make_shard_set

pytestmark = [pytest.mark.slow, pytest.mark.network]

STAGES = ("train2d", "train3d", "finetune")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("processes") / "shards", {"train": 18, "val": 5}, image_size=64)


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
    with joined(rank, port) as process:
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
        one += ["--optim.grad-accum-steps", "2"]
    whole = gradients(one, Process(0, 1, torch.device("cpu")), trained)
    parts = halves(two, trained, tmp_path / "gradients.pt")
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=2e-4 * scale)


def train_some_steps(arguments, process):
    """Train three steps and validate; return the buffers before and after, and the metrics."""
    trainer = Trainer(parse_train(arguments), process)
    for batch in itertools.islice(trainer.loader, 3):
        trainer.train_step(batch)

    def buffers():
        return {name: buffer.clone() for name, buffer in trainer.learner.model.named_buffers()}

    before = buffers()
    trainer.validate()
    found = {"before": before, "after": buffers(), "metrics": trainer.validations[-1]}
    trainer.close()
    return found


def with_and_without_broadcasts(rank, port, folder, arguments):
    def broadcasting(*args, **more):
        return DistributedDataParallel(*args, **more | {"broadcast_buffers": True})

    with joined(rank, port) as process:
        found = {"ours": train_some_steps([*arguments, "--run-dir", str(folder / "ours")], process)}
        distributed.process.DistributedDataParallel = broadcasting
        found["torch's"] = train_some_steps([*arguments, "--run-dir", str(folder / "torchs")], process)
        torch.save(found, folder / f"{rank}.pt")


def test_statistics_are_the_main_processs_as_if_broadcast_at_every_step(tmp_path, shards):
    arguments = flags(shards, tmp_path / "unused", "train2d", "--data.batch-size", "2")
    torch.multiprocessing.spawn(with_and_without_broadcasts, (free_port(), tmp_path, arguments), nprocs=2)
    main, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert not same(main["ours"]["before"], other["ours"]["before"])  # no step exchanges them
    assert same(main["ours"]["before"], main["torch's"]["before"])
    assert same(main["ours"]["after"], main["torch's"]["after"])
    assert same(main["ours"]["after"], other["ours"]["after"])
    assert main["ours"]["metrics"] == other["ours"]["metrics"] == main["torch's"]["metrics"]


def start_differently(rank, port, folder, shards, others):
    """Start a run in two processes whose flags differ, then on two shard sets."""
    with joined(rank, port) as process:
        arguments = flags(shards, folder / str(rank), "train3d", "--data.threads", str(rank))
        for theirs, complaint in (
            (["--optim.lr", "0.5"], "process 1 has optim.lr 0.5, process 0 has 0.001"),
            (["--data.shards", str(others)], "process 1 has train shards"),
            (["--loss.bone", "1"], "process 1 has loss.bone 1.0"),
        ):
            with pytest.raises(InputError, match=complaint):
                Trainer(parse_train(arguments + theirs * rank), process)
        Trainer(parse_train(arguments), process).close()


def test_processes_that_were_told_different_things_do_not_begin(tmp_path, shards):
    others = make_shard_set(tmp_path / "others", {"train": 18, "val": 5}, image_size=64, seed=1)
    torch.multiprocessing.spawn(start_differently, (free_port(), tmp_path, shards, others), nprocs=2)


def test_two_agents_equal_one_with_two_processes(tmp_path, shards):
    """As two nodes would that a scheduler stops; they need no common folder: the second one's is its own."""
    more = ("--data.batch-size", "2", "--epochs", "6", "--data.augment.rotation", "20", "--distributed.timeout", "60")
    finish(start(flags(shards, tmp_path / "one", "finetune", *more), processes=2))
    launcher = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d")
    launcher += ("--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--max-restarts", "3")
    folders = [tmp_path / "node-0", tmp_path / "node-1"]

    def nodes(job):
        return [
            start(flags(shards, folder, "finetune", *more, "--resume"), launcher=(*launcher, "--rdzv-id", job))
            for folder in folders
        ]

    stopped = nodes("stopped")
    while not any(read_metrics(folder / "metrics.jsonl") for folder in folders):  # both note signals from here on
        assert all(node.poll() is None for node in stopped)
        time.sleep(0.01)
    for node in stopped:
        node.send_signal(signal.SIGTERM)
    for node in stopped:
        node.communicate(timeout=240)
        assert node.returncode != 0
    (wrote,) = [folder for folder in folders if (folder / "last.pt").exists()]
    assert checkpoint.load(wrote / "last.pt").step < 24
    for node in nodes("resumed"):
        finish(node)
    assert checkpoint.load(wrote / "last.pt").step == 24
    assert same(weights(tmp_path / "one"), weights(wrote))


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
    output, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    cause = output[output.index("Root Cause") :]
    assert re.search(rf"rank +: {victim} ", cause)
    assert "Signal 9" in cause


def test_a_process_that_hangs_is_named_within_the_time_out(tmp_path, shards, monkeypatch):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3")  # 30 s, and fixed in torchrun of torch 2.11
    more = ("--epochs", "100000", "--data.batch-size", "2", "--distributed.timeout", "5")
    process = start(flags(shards, tmp_path / "run", "train3d", *more), processes=2)
    wait_for_step(process, tmp_path / "run", 6)
    os.kill(workers(process)[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert f"process 1 of 2 on {socket.gethostname()} did not answer within 5 s" in output
    assert "process 1 of 2" in (tmp_path / "run/errors/rank-0.log").read_text()


def exchange_after_a_failed_one(rank, port, done):
    """Let process 0 exchange twice with process 1, which does not come: only the first error names its source."""
    if rank == 1:
        with joined(rank, port, timeout=2):
            while not done.exists():
                time.sleep(0.1)
        return
    with pytest.raises(Failure, match=r"process 1 of 2 on .* did not answer within 2 s"), joined(rank, port, timeout=2):
        with pytest.raises(RuntimeError, match="gloo"):
            torch.distributed.all_reduce(torch.zeros(1))
        torch.distributed.all_reduce(torch.zeros(1))
    done.touch()


def test_a_process_that_hangs_is_named_whichever_exchange_tells(tmp_path):
    torch.multiprocessing.spawn(exchange_after_a_failed_one, (free_port(), tmp_path / "done"), nprocs=2)


def test_processes_that_are_restarted_resume_by_themselves(tmp_path, shards):
    more = ("--epochs", "20", "--data.batch-size", "2", "--checkpoint.every", "3", "--data.augment.rotation", "20")
    finish(start(flags(shards, tmp_path / "whole", "train3d", *more), processes=2))
    process = start(flags(shards, tmp_path / "run", "train3d", *more), 2, ("--max-restarts", "1"))
    wait_for_step(process, tmp_path / "run", 8)
    os.kill(workers(process)[1], signal.SIGKILL)
    finish(process)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_two_agents_restart_together(tmp_path, shards):
    """One of them counts a restart, because its process died, and the other none: it joins that of the first."""
    more = ("--epochs", "20", "--data.batch-size", "2", "--checkpoint.every", "3", "--distributed.timeout", "60")
    launcher = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "restarted")
    launcher += ("--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--max-restarts", "1")
    arguments = flags(shards, tmp_path / "run", "train3d", *more)
    agents = [start(arguments, launcher=launcher) for _ in range(2)]
    wait_for_step(agents[0], tmp_path / "run", 8)
    (worker,) = workers(agents[1]).values()
    os.kill(worker, signal.SIGKILL)
    said = "".join(map(finish, agents))
    assert "cannot connect" not in said  # they would meet in the end, once as many of each one's processes have failed
    assert "did not come" not in said
    assert checkpoint.load(tmp_path / "run/last.pt").step == 80


def test_an_error_of_one_process_is_shown_by_all(tmp_path, shards):
    more = ("--data.batch-size", "2", "--optim.lr", "1e30", "--log-every", "1")
    process = start(flags(shards, tmp_path / "run", "train2d", *more), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "the loss is not finite at step" in output


def test_compressed_gradients_train(tmp_path, shards):
    more = ("--data.batch-size", "2", "--epochs", "3", "--distributed.compress-gradients")
    finish(start(flags(shards, tmp_path / "run", "train3d", *more), processes=2))
    losses = [e["train/loss"] for e in read_metrics(tmp_path / "run/metrics.jsonl") if "train/loss" in e]
    assert losses[-1] < losses[0]
