from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from engine.command import CHECK_FAILED, OK
from tests.tools.processes import is_worker, workers_of
from tests.tools.shard_runs import ROOT, command, make, modified, tree
from tests.tools.tiny_dataset import make_crowd

KILLS = 20
FLAGS = ("--samples-per-shard", "4", "--components", "rgba", "json", "--image-format", "source")


def test_twenty_kills_leave_the_same_bytes(tmp_path: Path) -> None:
    root, output, whole = make_crowd(tmp_path / "data", 240), tmp_path / "killed", tmp_path / "whole"
    assert make(root, whole, *FLAGS) == OK
    chance = random.Random(20)
    progress: list[int] = []
    while len(progress) < KILLS:
        ended = kill_at_some_moment(root, output, len(progress), chance)
        shards = list(output.glob("train/*.tar"))
        for path in shards:
            assert path.read_bytes() == (whole / "train" / path.name).read_bytes()
        if ended == OK:  # it was faster than the kill
            assert tree(output) == tree(whole)
            shutil.rmtree(output)
        else:
            assert not (output / "manifest.json").exists()
            progress.append(len(shards))
    assert len(set(progress)) > KILLS // 3, "runs go on where those before them stopped"
    times = modified(output)
    assert make(root, output, *FLAGS) == OK
    assert tree(output) == tree(whole)
    assert times.items() <= modified(output).items(), "finished shards are not written again"


def kill_at_some_moment(root: Path, output: Path, number: int, chance: random.Random) -> int:
    """Start a run, kill it or one of its workers, and return its exit status."""
    stale, before = set(output.glob("train/*.partial")), len(list(output.glob("train/*.tar")))
    of_worker = number % 5 == 4
    process = subprocess.Popen(
        command(root, output, *FLAGS, "--workers", "2"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if of_worker else subprocess.DEVNULL, text=True,
    )  # fmt: skip
    if number % 5 == 0:
        time.sleep(chance.uniform(0, 1))  # while it starts and plans
    else:
        more = chance.choice((0, 1, 2, 3))
        while process.poll() is None and (
            len(list(output.glob("train/*.tar"))) < before + more or not set(output.glob("train/*.partial")) - stale
        ):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
    if of_worker:
        return kill_worker(process, output, chance)
    process.kill()
    assert process.wait() in (OK, -signal.SIGKILL)
    return process.returncode


def kill_worker(process: subprocess.Popen[str], output: Path, chance: random.Random) -> int:
    """Kill one of the worker processes; the command has to say so in one line and to tidy up."""
    alive = workers_of(process)
    if alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(alive), signal.SIGKILL)
    said = process.communicate()[1]
    if process.returncode != OK:
        assert process.returncode == CHECK_FAILED, said
        assert said.count("\n") == 1
        assert "a worker process died" in said
        assert "run the same command again" in said
        assert not list(output.rglob("*.partial"))
    return process.returncode


def test_workers_that_outlive_their_run_end_and_harm_nothing(tmp_path: Path) -> None:
    root, output, whole = make_crowd(tmp_path / "data", 240), tmp_path / "set", tmp_path / "whole"
    assert make(root, whole, *FLAGS) == OK
    process = subprocess.Popen(
        command(root, output, *FLAGS, "--workers", "2"), cwd=ROOT, stdout=subprocess.DEVNULL, text=True
    )
    while not list(output.glob("train/*.partial")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = workers_of(process)
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert make(root, output, *FLAGS) == OK  # while they are in the middle of their shards
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    while any(is_worker(pid) for pid in workers):
        time.sleep(0.01)  # for ever, if they do not end
    assert make(root, output, *FLAGS) == OK  # finished already; a next shard that one of them began is swept away
    assert tree(output) == tree(whole)
