"""CPU quotas of containers count as cores, in both versions of control groups."""

import contextlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loaders.system import cores as cores_module
from loaders.system.cores import cpu_quota
from tests.tools.shard_runs import ROOT


def quota(tmp_path: Path, own: str, files: dict[str, str]) -> float:
    """Return the quota that a made-up tree gives to a process of these groups."""
    (tmp_path / "cgroup").write_text(own)
    for name, content in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cpu_quota(tmp_path / "cgroup", tmp_path / "fs")


V1 = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/system.slice\n"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 0.05),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 10000\n", "a/cpu.max": "max 100000\n"}, 5),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000\n", "cpu.max": "700000 100000"},
            2,
        ),
        ("0::/a\n", {"ab/cpu.max": "100000 100000\n", "b/cpu.max": "100000 100000\n"}, math.inf),
        ("0::/../../elsewhere\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a:b\n", {"a:b/cpu.max": "200000 100000\n"}, 2),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000\n"}, 2),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "250000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 2.5),
        (V1, {"cpu,cpuacct/docker/cpu.cfs_quota_us": "50000", "cpu,cpuacct/docker/cpu.cfs_period_us": "25000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, math.inf),
        (V1, {"cpuset/docker/abc/cpu.cfs_quota_us": "1\n", "cpuset/docker/abc/cpu.cfs_period_us": "1\n"}, math.inf),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "100000\n"}, math.inf),
        *[("0::/\n", {"cpu.max": content}, math.inf) for content in ("", "1", "a b", "1 0", "0 1", "-1 1", "9" * 5000)],
        ("0::/\n", {"cpu.max/folder": ""}, math.inf),
        ("not a group\n\n::\n0\n", {"cpu.max": "200000 100000"}, 2),
        ("", {}, math.inf),
    ],
)
def test_the_least_quota_on_the_way_up_counts(tmp_path, own, files, cores):
    assert quota(tmp_path, own, files) == cores


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path / "neither") == math.inf


@pytest.mark.parametrize(("cores", "expected"), [(math.inf, 8), (16, 8), (8, 8), (2, 2), (1.5, 2), (1, 1), (0.05, 1)])
def test_fractions_are_rounded_up_and_one_core_is_left(monkeypatch, cores, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(cores_module, "cpu_quota", lambda: cores)
    assert cores_module.available_cores() == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cores_module.cores_per_process() == max(1, expected // 4)


@pytest.fixture
def half_a_core():
    """A real group, inside another one that may use half a core."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    root = Path("/sys/fs/cgroup") if unified else Path("/sys/fs/cgroup/cpu")
    outer = root / f"test-quota-{os.getpid()}"
    inner = outer / "inner"
    try:
        outer.mkdir()
        if unified:
            (outer / "cpu.max").write_text("50000 100000")
        else:
            (outer / "cpu.cfs_quota_us").write_text("50000")
        inner.mkdir()
    except OSError:
        with contextlib.suppress(OSError):
            outer.rmdir()
        pytest.skip("no control group may be made here")
    yield inner
    inner.rmdir()
    outer.rmdir()


@pytest.mark.slow
def test_a_real_quota_counts_for_commands_and_for_torch(half_a_core):
    """Also within torch, which starts a thread for each core it sees."""
    program = (
        "import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / 'cgroup.procs').write_text(str(os.getpid()));"
        "from loaders.system.cores import available_cores; from engine.device import choose_device; import torch;"
        "choose_device('cpu'); print(available_cores(), torch.get_num_threads())"
    )
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program, half_a_core], cwd=ROOT, env=free, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "1"], done.stderr
