from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tarfile
import termios
from pathlib import Path

import pytest

from loaders.system.locks import locked
from tests.tools.archive_factory import (
    SUBJECTS,
    command,
    contents,
    frames_of,
    member,
    split_into,
    tar_of,
    times,
    unpack,
    zipped,
)
from tests.tools.shard_runs import ROOT

NAMES = [f"{SUBJECTS[0]}.tar.gz.parta{letter}" for letter in "abcd"]


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_become_folders(parts: Path, tmp_path: Path, workers: int) -> None:
    (parts / "male_001_a_a.tar.gz").write_bytes(tar_of(frames_of("male_001_a_a")))
    assert unpack(parts, tmp_path / "raw", workers=workers) == 0
    expected = {name: data for s in (*SUBJECTS, "male_001_a_a") for name, data in frames_of(s).items()}
    assert contents(tmp_path / "raw") == expected
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([*SUBJECTS, "male_001_a_a"])


@pytest.mark.parametrize("prefix", ["", "./", "male_001_a_a/", ".//male_001_a_a/./"])
def test_the_subjects_folder_may_be_in_the_archive_or_not(tmp_path: Path, prefix: str) -> None:
    content = tar_of({f"{prefix}env_001/cam_down/json/x_000001.json": b"{}"})
    (tmp_path / "male_001_a_a.tar.gz").write_bytes(content)
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {"male_001_a_a/env_001/cam_down/json/x_000001.json": b"{}"}


def test_finished_subjects_are_not_done_again(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack(parts, tmp_path / "raw") == 0
    before = times(tmp_path / "raw")
    assert unpack(parts, tmp_path / "raw") == 0
    assert times(tmp_path / "raw") == before
    assert "0 subjects unpacked, 2 were there already" in capsys.readouterr().out


@pytest.mark.slow
def test_progress_is_counted_in_bytes_of_the_archives(parts: Path, tmp_path: Path) -> None:
    total = sum(path.stat().st_size for path in parts.iterdir())
    terminal, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 120))
    with subprocess.Popen(command(parts, tmp_path / "raw"), cwd=ROOT, stderr=inner, stdout=subprocess.DEVNULL) as run:
        assert run.wait() == 0
    os.close(inner)
    said = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert re.search(rf"100%.*{total / 1e3:.0f}k/{total / 1e3:.0f}k .*B/s", said), said


def test_parts_are_deleted_only_when_their_subject_is_whole(parts: Path, tmp_path: Path) -> None:
    last = parts / NAMES[3]
    last.write_bytes(last.read_bytes()[:-20])
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    assert sorted(path.name for path in parts.iterdir()) == NAMES
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [SUBJECTS[1]]


def test_parts_of_a_subject_that_was_there_are_deleted_when_it_holds_the_same(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unpack(parts, tmp_path / "raw") == 0
    frame = next((tmp_path / "raw" / SUBJECTS[0]).rglob("*.png"))
    content = frame.read_bytes()
    for altered in (content[:-1], content + b"x", b"x" + content[1:], None):
        frame.unlink()
        if altered is not None:
            frame.write_bytes(altered)
        before = times(tmp_path / "raw")
        assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
        assert f"{SUBJECTS[0]}: is there, but not as its parts have it" in capsys.readouterr().out
        assert times(tmp_path / "raw") == before
        assert sorted(path.name for path in parts.iterdir()) == NAMES
        frame.write_bytes(content)
    before = times(tmp_path / "raw")
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 0
    assert times(tmp_path / "raw") == before
    assert not list(parts.iterdir())


def test_deleting_goes_on_where_it_was_killed(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack(parts, tmp_path / "raw") == 0
    (parts / NAMES[0]).rename(parts / f"{NAMES[0]}.unpacked")
    (parts / NAMES[1]).unlink()
    assert unpack(parts, tmp_path / "raw") == 0
    assert len(list(parts.glob(f"{SUBJECTS[0]}*"))) == 3
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 0
    assert not list(parts.iterdir())
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 0, "killed after the last part, there is nothing left"
    assert contents(tmp_path / "raw") == {**frames_of(SUBJECTS[0]), **frames_of(SUBJECTS[1])}
    assert unpack(parts, tmp_path / "raw") == 2
    assert "holds no archives" in capsys.readouterr().err


def test_parts_that_cannot_be_deleted_are_one_line(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / f"{NAMES[0]}.unpacked").mkdir()  # in the way of a name that is needed
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    message = capsys.readouterr().err
    assert f"{SUBJECTS[0]} is unpacked, but {parts / NAMES[0]} cannot be deleted (Is a directory)" in message
    assert message.count("\n") == 1
    assert contents(tmp_path / "raw" / SUBJECTS[0])


def test_owners_and_rights_of_the_archive_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(zipped(member("x/file", content=b"x") + member("x/folder", tarfile.DIRTYPE)))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    (tmp_path / "raw" / "new").touch()
    for name, like in (("file", tmp_path / "raw" / "new"), ("folder", tmp_path / "raw")):
        found, wanted = (tmp_path / "raw" / "x" / name).stat(), like.stat()
        assert (found.st_mode, found.st_uid, found.st_gid) == (wanted.st_mode, wanted.st_uid, wanted.st_gid)


def test_of_a_name_that_comes_twice_the_later_stays(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(zipped(member("x/a", content=b"first") + member("x/a", content=b"2nd")))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {"x/a": b"2nd"}


PEAK = """
import sys, tracemalloc
from tools import extract
flags = ["--input", sys.argv[1], "--output", sys.argv[2], "--workers", "1"]
tracemalloc.start()
assert extract.main(flags) == 0
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    def peak(name: str, contents: dict[str, bytes]) -> int:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tar.gz").write_bytes(tar_of(contents))
        arguments = [sys.executable, "-c", PEAK, str(tmp_path / name), str(tmp_path / f"{name} raw")]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout.splitlines()[-1])

    small = peak("small", {"x/file": bytes(3_000_000)})
    assert small < 5e6
    assert peak("large", {"x/file": bytes(150_000_000)}) < small + 5e5
    # Python's table of names grows by a megabyte; headers, if they were kept, by 1.5 kB each
    assert peak("many", {f"x/{number}": b"" for number in range(4000)}) < small + 2e6


def test_a_second_run_is_kept_out(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "raw"):
        assert unpack(parts, tmp_path / "raw") == 2
    assert "another run is writing" in capsys.readouterr().err
    assert not list((tmp_path / "raw").iterdir())


@pytest.mark.parametrize("flags", [[], ["--delete-parts"]])
def test_a_full_disk_is_one_line_that_says_what_is_needed(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    parts, output = tmp_path / "parts", small_disk / "raw"
    parts.mkdir()
    for subject, frames in zip(SUBJECTS, (20, 100), strict=True):
        split_into(parts, subject, tar_of(frames_of(subject, frames)), 2)
    sizes = [sum(path.stat().st_size for path in parts.glob(f"{subject}*")) for subject in SUBJECTS]
    assert unpack(parts, output, *flags) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    needed = f"{sizes[1] / 1e6:.2f} MB, which the largest is" if flags else f"{sum(sizes) / 1e6:.2f} MB, which they are"
    assert f"{SUBJECTS[1]} cannot be unpacked to {output} (No space left on device)" in said
    assert (
        f"the 2 subjects to come need at least {needed} compressed, and 3.15 MB are free: make room, then run" in said
    )
    assert not list(output.iterdir())
    assert len(list(parts.iterdir())) == 4


def test_a_file_that_cannot_be_written_is_one_line(parts: Path, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        "from tools import extract; sys.exit(extract.main(sys.argv[1:]))"
    )
    flags = ["--input", str(parts), "--output", str(tmp_path / "raw"), "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", script, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{SUBJECTS[0]} cannot be unpacked" in done.stderr
    assert "(File too large): see to the disk, then run the same command again" in done.stderr
    assert not list((tmp_path / "raw").iterdir())


def test_bad_input_is_one_line(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for folder, output, flags, said in (
        (tmp_path / "nowhere", "raw", [], "cannot be read (No such file or directory)"),
        (tmp_path / "file", "raw", [], "cannot be read (Not a directory)"),
        (tmp_path / "empty", "raw", [], "holds no archives"),
        (tmp_path / "empty", "raw", ["--delete-parts"], "holds no archives"),
        (parts, "file", [], "is a file"),
        (parts, "raw", ["--workers", "-1"], "give at least 0"),
    ):
        assert unpack(folder, tmp_path / output, *flags) == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_an_unreadable_folder_is_named(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts.chmod(0)
    mine = os.geteuid()
    if mine == 0:  # may read everything
        os.seteuid(65534)
    try:
        assert unpack(parts, tmp_path / "raw") == 2
    finally:
        os.seteuid(mine)
    assert f"{parts} cannot be read (Permission denied)" in capsys.readouterr().err
