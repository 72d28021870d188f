from __future__ import annotations

import contextlib
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import halt, is_worker, workers_of
from tests.tools.archive_factory import SUBJECTS, command, contents, frames_of, split_into, tar_of, times, unpack
from tests.tools.shard_runs import ROOT, tree

pytestmark = pytest.mark.slow


def test_a_run_killed_twenty_times_ends_like_one_that_was_not(tmp_path: Path) -> None:
    stored, parts, output, whole = (tmp_path / name for name in ("stored", "parts", "killed", "whole"))
    stored.mkdir()
    for number in range(40):
        subject = f"male_{number:03d}_a_a"
        split_into(stored, subject, tar_of(frames_of(subject, 25)), 3)
    shutil.copytree(stored, parts)
    start = time.monotonic()
    process = subprocess.Popen(command(parts, whole, "--workers", "2"), cwd=ROOT, stdout=subprocess.DEVNULL)
    preparing = until_it_unpacks(process, whole)
    assert process.wait() == 0
    unpacking = time.monotonic() - start - preparing
    chance, wanted = random.Random(20), tree(whole)
    found: dict[Path, int] = {}
    progress: list[int] = []
    while len(progress) < 20:
        flags = ["--delete-parts"] if len(progress) >= 10 else []
        process = subprocess.Popen(
            command(parts, output, "--workers", "2", *flags), cwd=ROOT, stdout=subprocess.DEVNULL
        )
        if len(progress) % 5 == 0:
            time.sleep(chance.uniform(0, preparing))
        else:
            until_it_unpacks(process, output)
            time.sleep(chance.uniform(0, unpacking / 5))
        process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        if process.returncode == 0:  # it was faster than the kill
            assert tree(output) == wanted
            shutil.rmtree(output)
            shutil.rmtree(parts)
            shutil.copytree(stored, parts)
            found = {}
            continue
        # a worker may go on for a moment, so first comes what it does last
        lost = {path.name.split(".")[0] for path in stored.iterdir() if not (parts / path.name).exists()}
        before, found = found, times(output)
        done, earlier = ({path.relative_to(output).parts[0] for path in paths} for paths in (found, before))
        assert lost <= done
        assert before.items() <= found.items(), "finished subjects are not touched"
        for subject in done - earlier:
            assert tree(output / subject) == tree(whole / subject)
        progress.append(len(done))
    assert len(set(progress)) > 5, "killed at many stages"
    assert unpack(parts, output, "--delete-parts", workers=2) == 0
    assert tree(output) == wanted
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert found.items() <= times(output).items()
    assert not list(parts.iterdir())


def being_unpacked(output: Path, below: str) -> list[Path]:
    """What matches in the folder of unpacking, which may vanish at any moment; Path.glob minds that."""
    return [Path(path) for path in glob.glob(f"{glob.escape(str(output))}/.unpacking/{below}", recursive=True)]  # noqa: PTH207


def begun(output: Path) -> set[int]:
    """When each folder of what is being unpacked was last changed; those of a killed run stay until the next."""
    changed = set()
    for path in being_unpacked(output, "*"):
        with contextlib.suppress(FileNotFoundError):  # it was given its name
            changed.add(path.stat().st_ctime_ns)
    return changed


def until_it_unpacks(process: subprocess.Popen[bytes], output: Path) -> float:
    """Wait for a subject's folder; return how long it took (seconds)."""
    start, stale = time.monotonic(), begun(output)
    while process.poll() is None and not begun(output) - stale:
        time.sleep(0.002)
    return time.monotonic() - start


def test_the_next_run_waits_until_the_workers_of_a_killed_one_are_gone(tmp_path: Path) -> None:
    parts, output = tmp_path / "parts", tmp_path / "raw"
    parts.mkdir()
    for subject in SUBJECTS:
        split_into(parts, subject, tar_of(frames_of(subject, 4000, 100)), 2)
    killed = subprocess.Popen(command(parts, output, "--workers", "2"), cwd=ROOT)
    while len(being_unpacked(output, "*")) < 2 or not any(map(Path.is_file, being_unpacked(output, "*/**/*"))):
        assert killed.poll() is None
        time.sleep(0.002)
    workers = workers_of(killed)
    for pid in workers:
        halt(pid)
    killed.kill()
    killed.wait()
    try:
        assert len(workers) == 2
        left = tree(output)
        following = subprocess.Popen(command(parts, output), cwd=ROOT)
        while not re.search(rf"-> FLOCK .* {following.pid} ", Path("/proc/locks").read_text()):
            assert following.poll() is None, "it did not wait"
            time.sleep(0.01)
        assert 0 < len(left) < 8000
        assert tree(output) == left
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    assert following.wait() == 0
    assert not [pid for pid in workers if is_worker(pid)]
    assert contents(output) == {**frames_of(SUBJECTS[0], 4000, 100), **frames_of(SUBJECTS[1], 4000, 100)}
    assert sorted(path.name for path in output.iterdir()) == list(SUBJECTS)


def test_a_worker_that_is_killed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    parts, output = tmp_path / "parts", tmp_path / "raw"
    parts.mkdir()
    for subject in SUBJECTS:
        split_into(parts, subject, tar_of(frames_of(subject, 4000, 100)), 2)
    process = subprocess.Popen(command(parts, output, "--workers", "2"), cwd=ROOT, stderr=subprocess.PIPE)
    until_it_unpacks(process, output)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    said = process.communicate()[1].decode()
    assert process.returncode == 1
    assert said.count("\n") == 1
    assert "a worker process died" in said
    assert not list(output.glob(".*"))
