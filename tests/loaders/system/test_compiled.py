"""Compiled code is kept for the next start where it can be; where it cannot, or is damaged, everything works."""

import os
import shutil
import subprocess
import sys

import numba
import pytest

from loaders.system.compiled import compiled
from tests.tools.shard_runs import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import resource, signal, sys
import numpy as np
if "full" in sys.argv:  # no file may grow
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
from loaders.area_resize import _resize, resize_by_area
pixel = resize_by_area(np.full((2, 2, 3), 255, np.uint8), 1)
sys.stdout.write(f"{pixel.sum()} {sum(_resize.stats.cache_misses.values())} misses")
"""
COMPILED = "765 1 misses"


@pytest.fixture
def project(tmp_path):
    """The packages where no cache can be written, not even by root: files stand where folders would have to."""
    for package in ("loaders", "models"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / package / "__pycache__").touch()
    return tmp_path


def start(project, *arguments, **variables):
    """Run the program; return what it says, and its warnings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=project,
        env={**kept, "HOME": "/proc/nowhere", "PYTHONPATH": str(project), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("variables", [{}, {"NUMBA_CACHE_DIR": "/proc/nowhere"}], ids=["default", "given"])
def test_without_a_writable_folder_code_is_compiled_with_a_hint(project, variables):
    said, hint = start(project, **variables)
    assert said == COMPILED
    assert hint.startswith("compiled code cannot be kept (no cache folder can be written)")
    assert hint.count("NUMBA_CACHE_DIR") == hint.count("\n") == 1


def test_other_ranks_and_worker_processes_leave_the_hint_to_the_first(project):
    assert start(project, LOCAL_RANK="1") == (COMPILED, "")
    program = project / "program.py"
    program.write_text(
        "import multiprocessing\nimport loaders.area_resize\nif __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n        pool.map(abs, range(2))\n"
    )
    environment = {**os.environ, "HOME": "/proc/nowhere", "PYTHONPATH": str(project), "NUMBA_CACHE_DIR": "/proc/none"}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("compiled code cannot be kept") == 1


def test_a_disk_that_is_full_ends_nothing(project, tmp_path):
    said, hint = start(project, "full", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert said == COMPILED
    assert "File too large" in hint
    assert hint.count("NUMBA_CACHE_DIR") == hint.count("\n") == 1


def add_one(value):
    return value + 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept():
    """Use a function as the next start would; return whether its code was kept."""
    function = compiled(add_one)
    assert function(2) == 3
    return sum(function.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: bytes(len(whole)),
        lambda whole: b"\x80\x04N.",
        lambda whole: whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :],
    ],
    ids=["empty", "cut", "zeros", "something else", "a flipped bit"],
)
def test_damaged_code_is_compiled_anew_and_mended(cache, caplog, ending, damage):
    assert not kept()
    assert kept()
    (path,) = cache.rglob(f"*.{ending}")
    path.write_bytes(damage(path.read_bytes()))
    assert not kept()
    assert kept()
    assert not caplog.messages


def test_code_of_another_numba_is_compiled_anew(cache, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(numba, "__version__", "0.1")
        assert not kept()
        assert kept()
    assert not kept()
    assert kept()
