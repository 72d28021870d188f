from __future__ import annotations

import gzip
import io
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tools.shard_runs import ROOT, tree
from tools import extract

SUBJECTS = ("female_001_a_a", "male_008_a_a")


def tar_of(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def frames_of(subject: str, count: int = 6, size: int = 40_000) -> dict[str, bytes]:
    noise = np.random.default_rng(len(subject))
    return {
        f"{subject}/env_001/cam_down/rgba/{subject}.rgba.{frame:06d}.png": noise.bytes(size)
        for frame in range(1, count + 1)
    }


def split_into(folder: Path, subject: str, content: bytes, parts: int) -> list[Path]:
    step = -(-len(content) // parts)
    names = [folder / f"{subject}.tar.gz.parta{letter}" for letter in "abcdefghij"[:parts]]
    for place, name in enumerate(names):
        name.write_bytes(content[place * step : (place + 1) * step])
    return names


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for subject in SUBJECTS:
        split_into(folder, subject, tar_of(frames_of(subject)), 4)
    return folder


def unpack(folder: Path, output: Path, *flags: str, workers: int = 1) -> int:
    return extract.main(["--input", str(folder), "--output", str(output), "--workers", str(workers), *flags])


def contents(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_become_folders(parts: Path, tmp_path: Path, workers: int) -> None:
    (parts / "male_001_a_a.tar.gz").write_bytes(tar_of(frames_of("male_001_a_a")))
    assert unpack(parts, tmp_path / "raw", workers=workers) == 0
    expected = {name: data for s in (*SUBJECTS, "male_001_a_a") for name, data in frames_of(s).items()}
    assert contents(tmp_path / "raw") == expected
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([*SUBJECTS, "male_001_a_a"])


def test_an_archive_without_the_subjects_folder_gets_one(tmp_path: Path) -> None:
    (tmp_path / "male_001_a_a.tar.gz").write_bytes(tar_of({"env_001/cam_down/json/x_000001.json": b"{}"}))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {"male_001_a_a/env_001/cam_down/json/x_000001.json": b"{}"}


def test_finished_subjects_are_not_done_again(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack(parts, tmp_path / "raw") == 0
    times = {path: path.stat().st_ctime_ns for path in (tmp_path / "raw").rglob("*")}
    assert unpack(parts, tmp_path / "raw") == 0
    assert {path: path.stat().st_ctime_ns for path in (tmp_path / "raw").rglob("*")} == times
    assert "0 subjects unpacked, 2 were there already" in capsys.readouterr().out


def test_parts_are_deleted_only_when_their_subject_is_whole(parts: Path, tmp_path: Path) -> None:
    last = parts / f"{SUBJECTS[0]}.tar.gz.partad"
    last.write_bytes(last.read_bytes()[:-20])
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    assert sorted(path.name for path in parts.iterdir()) == [f"{SUBJECTS[0]}.tar.gz.parta{x}" for x in "abcd"]
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [SUBJECTS[1]]


def cut_end(folder: Path) -> None:
    path = folder / f"{SUBJECTS[0]}.tar.gz.partad"
    path.write_bytes(path.read_bytes()[:-1000])


def cut_checksum(folder: Path) -> None:
    path = folder / f"{SUBJECTS[0]}.tar.gz.partad"
    path.write_bytes(path.read_bytes()[:-3])


def cut_middle(folder: Path) -> None:
    path = folder / f"{SUBJECTS[0]}.tar.gz.partab"
    path.write_bytes(path.read_bytes()[:-1000])


def lose_middle(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz.partac").unlink()


def lose_first(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz.partaa").unlink()


def lose_last(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz.partad").unlink()


def flip(folder: Path) -> None:
    path = folder / f"{SUBJECTS[0]}.tar.gz.partac"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def empty(folder: Path) -> None:
    for letter in "abcd":
        (folder / f"{SUBJECTS[0]}.tar.gz.parta{letter}").write_bytes(b"")


def double(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_end, "partad ends early"),
        (cut_checksum, "partad ends early"),
        (cut_middle, "is damaged"),
        (lose_middle, "partac missing"),
        (lose_first, "partaa missing"),
        (lose_last, "partac ends early: it is cut short, or a part after it is missing"),
        (flip, "is damaged"),
        (empty, "is damaged"),
        (double, "remove one of them"),
    ],
)
def test_a_damaged_archive_is_named_and_the_others_go_on(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, said: str
) -> None:
    assert callable(damage)
    damage(parts)
    assert unpack(parts, tmp_path / "raw") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{SUBJECTS[0]}: ")
    assert said in lines[0]
    assert contents(tmp_path / "raw") == frames_of(SUBJECTS[1])
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [SUBJECTS[1]]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
    return gzip.compress(buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member("../escaped"), "points outside"),
        (member("male_001_a_a/../../escaped"), "points outside"),
        (member("/tmp/escaped"), "points outside"),
        (member("male_001_a_a/link", tarfile.SYMTYPE, "/etc/passwd"), "is a link or a device"),
        (member("male_001_a_a/link", tarfile.LNKTYPE, "../escaped"), "is a link or a device"),
        (member("male_001_a_a/device", tarfile.CHRTYPE), "is a link or a device"),
        (member("male_001_a_a/pipe", tarfile.FIFOTYPE), "is a link or a device"),
    ],
)
def test_members_that_could_do_harm_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    (tmp_path / "male_001_a_a.tar.gz").write_bytes(content)
    assert unpack(tmp_path, tmp_path / "raw" / "below") == 1
    assert said in capsys.readouterr().out
    assert list((tmp_path / "raw" / "below").iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


def test_a_killed_run_is_repeated_to_the_same_tree(tmp_path: Path) -> None:
    parts, output = tmp_path / "parts", tmp_path / "killed"
    parts.mkdir()
    for subject in (*SUBJECTS, "male_001_a_a"):
        split_into(parts, subject, tar_of(frames_of(subject, 150)), 3)
    assert unpack(parts, tmp_path / "whole") == 0
    command = [sys.executable, "-m", "tools.extract", "--input", str(parts), "--output", str(output)]
    for workers in ("1", "2"):
        process = subprocess.Popen([*command, "--workers", workers], cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(output.glob(".*.partial")):
            time.sleep(0.002)
        time.sleep(random.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = [path.name for path in output.iterdir() if not path.name.startswith(".")]
        for name in finished:
            assert tree(output / name) == tree(tmp_path / "whole" / name)
        time.sleep(0.2)  # its workers notice
    assert unpack(parts, output) == 0
    assert tree(output) == tree(tmp_path / "whole")


def test_a_file_in_the_way_is_one_line(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").write_text("")
    assert unpack(parts, tmp_path / "raw") == 1
    message = capsys.readouterr().err
    assert "cannot be unpacked" in message
    assert message.count("\n") == 1


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, said in ((tmp_path / "nowhere", "is not a folder"), (tmp_path, "holds no archives")):
        assert unpack(folder, tmp_path / "raw") == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
