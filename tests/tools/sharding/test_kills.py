from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from engine.cli.command import CHECK_FAILED, OK
from loaders.format.shard_set import ShardSet
from tests.processes import halt, is_worker, workers_of
from tests.tools.shard_runs import ROOT, command, make, modified, tree
from tests.tools.tiny_dataset import make_crowd
from tools.dataset.layout import find_recordings

pytestmark = pytest.mark.slow

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
        if ended != OK:
            progress.append(len(shards))
        if (output / "manifest.json").exists():  # it was about to end, or had ended before the kill
            assert make(root, output, *FLAGS) == OK
            assert tree(output) == tree(whole)
            shutil.rmtree(output)
    assert len(set(progress)) > KILLS // 3, "runs go on where those before them stopped"
    times = modified(output)
    assert make(root, output, *FLAGS) == OK
    assert tree(output) == tree(whole)
    assert times.items() <= modified(output).items(), "finished shards are not written again"


def kill_at_some_moment(root: Path, output: Path, number: int, chance: random.Random) -> int:
    """Start a run, kill it, in every fifth round one of its workers, and return its exit status."""
    stale, before = set(output.glob("train/*.partial")), len(list(output.glob("train/*.tar")))
    process = start(root, output)
    if number % 5 == 0:
        time.sleep(chance.uniform(0, 1))  # while it starts and plans
    else:
        more = chance.choice((0, 1, 2, 3))
        while process.poll() is None and (
            len(list(output.glob("train/*.tar"))) < before + more or not set(output.glob("train/*.partial")) - stale
        ):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
    workers = workers_of(process) if number % 5 == 4 else []
    with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(chance.choice(workers) if workers else process.pid, signal.SIGKILL)
    assert process.wait(60) in (OK, CHECK_FAILED if workers else -signal.SIGKILL)
    return process.returncode


def start(root: Path, output: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    arguments = command(root, output, *FLAGS, "--workers", "2")
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, text=True)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_is_one_line_and_the_run_is_resumed(tmp_path: Path, victim: int) -> None:
    root, output, whole = make_crowd(tmp_path / "data", 240), tmp_path / "set", tmp_path / "whole"
    assert make(root, whole, *FLAGS) == OK
    assert make(root, tmp_path / "labels", "--components", "json") == OK
    order = ShardSet(tmp_path / "labels", "train").labels()[1][:, 2].tolist()
    (recording,) = find_recordings(root)
    # each worker comes to a stop in the middle of a shard, at an image that nobody sends
    images = {recording.file("rgba", order[4 * number]): b"" for number in (25, 50)}
    for path in images:
        images[path] = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
    process = start(root, output, subprocess.PIPE)
    while len(list(output.glob("train/*.tar"))) < 49 or len(list(output.glob("train/*.tar.*.partial"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(workers_of(process)[victim], signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == CHECK_FAILED
    assert said.count("\n") == 1
    assert "a worker process died" in said
    assert "run the same command again" in said
    assert not list(output.rglob("*.partial"))
    for path, content in images.items():
        path.unlink()
        path.write_bytes(content)
    assert make(root, output, *FLAGS) == OK
    assert tree(output) == tree(whole)


def test_workers_that_outlive_their_run_end_and_harm_nothing(tmp_path: Path) -> None:
    root, output, whole = make_crowd(tmp_path / "data", 240), tmp_path / "set", tmp_path / "whole"
    assert make(root, whole, *FLAGS) == OK
    process = start(root, output)
    while not list(output.glob("train/*.partial")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = workers_of(process)
    assert len(workers) == 2
    for pid in workers:
        halt(pid)
    process.kill()
    process.wait()
    assert make(root, output, *FLAGS) == OK  # while they are in the middle of their shards
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    while any(is_worker(pid) for pid in workers):
        time.sleep(0.01)  # for ever, if they do not end
    assert make(root, output, *FLAGS) == OK  # finished already; a next shard that one of them began is swept away
    assert tree(output) == tree(whole)
