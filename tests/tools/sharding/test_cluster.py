"""Sharding on a real Dask scheduler with two real worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.cli.command import BAD_INPUT, CHECK_FAILED, OK
from loaders.format.shard_set import ShardSet
from tests.engine.own_files import write_own
from tests.tools.shard_runs import ROOT, command, make, modified, tree
from tests.tools.sources.own_data import OWN, write_frames
from tests.tools.tiny_dataset import make_crowd
from tools.dataset.layout import find_recordings

pytestmark = [pytest.mark.slow, pytest.mark.network]

pytest.importorskip("distributed")

FLAGS = ("--samples-per-shard", "4", "--components", "rgba", "json", "--image-format", "source")
SHARDS = 60


@dataclass
class Cluster:
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers, started as on the machines of a cluster; a worker that dies stays dead."""
    file = tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        )
        while not file.is_file() or not file.read_text().endswith("\n}"):  # the scheduler writes it in place
            assert scheduler.poll() is None
            time.sleep(0.02)
        address = json.loads(file.read_text())["address"]
        flags = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", str(tmp_path / "scratch"))
        yield Cluster(address, scheduler, [stack.enter_context(dask("worker", address, *flags)) for _ in range(2)])


@contextlib.contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_crowd(tmp_path / "data", 4 * SHARDS)


def start(root: Path, output: Path, cluster: Cluster) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(root, output, *FLAGS, "--scheduler", cluster.address),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def stopped_while_writing(worker: subprocess.Popen[bytes], run: subprocess.Popen[str], output: Path) -> Path:
    """Halt a worker in the middle of a shard, when others are finished; return the shard's partial file."""
    while run.poll() is None:
        if len(list(output.glob("train/*.tar"))) >= 3:
            worker.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED)  # all its threads
            for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    target = descriptor.readlink()
                    if target.match(f"{output}/train/*.tar.*.partial"):
                        return target
            worker.send_signal(signal.SIGCONT)
        time.sleep(0.003)
    raise AssertionError(f"the run ended: {run.communicate()}")


def test_a_worker_killed_in_the_middle_costs_nothing(cluster: Cluster, root: Path, tmp_path: Path) -> None:
    output, whole = tmp_path / "set", tmp_path / "whole"
    assert make(root, whole, *FLAGS) == OK
    run = start(root, output, cluster)
    partial = stopped_while_writing(cluster.workers[0], run, output)
    cluster.workers[0].kill()
    cluster.workers[0].wait()
    assert partial.exists()
    assert 3 <= len(list(output.glob("train/*.tar"))) < SHARDS
    said = run.communicate()
    assert run.returncode == OK, said
    assert cluster.workers[1].poll() is None
    assert tree(output) == tree(whole)


def test_a_lost_scheduler_is_one_line_and_the_run_goes_on_without_it(
    cluster: Cluster, root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "set"
    run = start(root, output, cluster)
    stopped_while_writing(cluster.workers[0], run, output)
    cluster.scheduler.kill()
    said = run.communicate()[1]
    assert run.returncode == CHECK_FAILED
    assert said.count("\n") == 1
    assert f"the Dask scheduler at {cluster.address} was lost: start `dask scheduler`" in said
    kept = modified(output)
    assert len(kept) >= 3
    assert make(root, output, *FLAGS) == OK
    assert kept.items() <= modified(output).items()
    assert len(ShardSet(output, "train", checksums=True)) == 4 * SHARDS * 7 // 8


def test_what_stops_a_job_is_said_in_one_line(
    cluster: Cluster, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the last in order, which no one but a worker comes to
    assert make(root, tmp_path / "labels", "--components", "json") == OK
    labels = ShardSet(tmp_path / "labels", "train")
    path = find_recordings(root)[0].file("rgba", int(labels.meta([len(labels) - 1])[0, 2]))
    path.unlink()
    path.mkdir()
    capsys.readouterr()
    assert make(root, tmp_path / "set", *FLAGS, "--scheduler", cluster.address) == CHECK_FAILED
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{path} cannot be read (Is a directory)" in message
    assert modified(tmp_path / "set"), "workers had begun"


def test_workers_open_a_source_out_of_a_users_file(cluster: Cluster, tmp_path: Path) -> None:
    own, frames = write_own(tmp_path, OWN), write_frames(tmp_path / "frames")
    flags = ("--source", f"{own}:Own", "--components", "rgba", "depth", "--samples-per-shard", "2")
    assert make(frames, tmp_path / "set", *flags, "--scheduler", cluster.address) == OK
    assert make(frames, tmp_path / "whole", *flags) == OK
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_a_scheduler_that_does_not_answer_is_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.parallel._CLUSTER_SECONDS", 1)
    assert make(root, tmp_path / "set", *FLAGS, "--scheduler", "tcp://127.0.0.1:1") == BAD_INPUT
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err
