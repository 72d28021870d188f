"""Limits of the operating system, as they are and as control groups and shells set them."""

import math
import os
import resource
import subprocess
import sys

import pytest

from loaders.system.cores import memory_limit
from tests.tools.machine.environments import PROGRAM, examine
from tests.tools.shard_runs import ROOT
from tools.machine import resources
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow


def test_cores_are_counted(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(resources, "cpu_quota", lambda: 3.5)
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    assert resources.cores() == Finding("ok", "4 of the machine's 16, a quota of 3.5 cores, bound to 8")


def test_a_single_core_is_a_warning():
    """As `taskset` leaves it."""
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, "-c", PROGRAM, "tools.machine.resources:cores"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status": "warning"' in done.stdout
    assert f"1 of the machine's {os.cpu_count()}" in done.stdout
    assert "--cpus-per-task" in done.stdout


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a\n", {"a/memory.max": "max\n", "memory.max": "5000000\n"}, 5_000_000),
        ("0::/a/b\n", {"a/memory.max": "4096\n", "a/b/memory.max": "8192\n"}, 4096),
        ("9:memory:/docker/x\n", {"memory/docker/x/memory.limit_in_bytes": "1048576\n"}, 1_048_576),
        ("9:cpu:/docker/x\n", {"cpu/docker/x/memory.limit_in_bytes": "1048576\n"}, math.inf),
        ("0::/\n", {"memory.max": "much\n"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_least_limit_of_memory_counts(tmp_path, own, files, limit):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert memory_limit(tmp_path / "own", tmp_path / "fs") == limit


def test_a_limit_of_memory_is_shown_and_warned_of(monkeypatch):
    monkeypatch.setattr(resources, "memory_limit", lambda: math.inf)
    assert " free" in resources.memory().found
    monkeypatch.setattr(resources, "memory_limit", lambda: 1.5e9)
    finding = resources.memory()
    assert finding.status == "warning"
    assert finding.found.endswith(" free, limited to 1.50 GB")
    assert "2.00 GB" in finding.remedy


@pytest.fixture
def small_shared_memory():
    """Return a command that runs another one with 64 MB of shared memory, as containers have them."""
    command = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m,"$0" none /dev/shm && exec "$@"']
    if subprocess.run([*command, "rw", "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    return command


@pytest.mark.parametrize(
    ("mounted", "status", "found", "remedy"),
    [
        ("rw", "warning", "67.1 MB free in /dev/shm: too little for NCCL", "--shm-size"),
        ("ro", "missing", "processes cannot share a lock (Read-only file system)", "mount /dev/shm, writable"),
    ],
)
def test_shared_memory(small_shared_memory, mounted, status, found, remedy):
    assert resources.shared_memory().status == "ok"
    done = subprocess.run(
        [*small_shared_memory, mounted, sys.executable, "-c", PROGRAM, "tools.machine.resources:shared_memory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'"status": "{status}"' in done.stdout
    assert found in done.stdout
    assert remedy in done.stdout


def test_open_files():
    assert examine("resources:open_files").status == "ok"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 100))\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", limited, "tools.machine.resources:open_files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status": "warning"' in done.stdout
    assert "open files are needed and 100 allowed" in done.stdout
    assert "ulimit -n" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100
