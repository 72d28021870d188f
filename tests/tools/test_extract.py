from __future__ import annotations

import contextlib
import gzip
import io
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools import test_shard_estimate
from tests.tools.shard_runs import ROOT, tree
from tests.tools.test_shard_kills import is_worker, workers_of
from tools import extract
from tools.archives import Archive, ArchiveError, read_archive
from tools.unfinished import locked

SUBJECTS = ("female_001_a_a", "male_008_a_a")
NAMES = [f"{SUBJECTS[0]}.tar.gz.parta{letter}" for letter in "abcd"]
small_disk = test_shard_estimate.small_disk


def plain_tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(contents: dict[str, bytes]) -> bytes:
    return gzip.compress(plain_tar(contents), 1)


def frames_of(subject: str, count: int = 6, size: int = 40_000) -> dict[str, bytes]:
    noise = np.random.default_rng(list(subject.encode()))
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


def command(folder: Path, output: Path, *flags: str) -> list[str]:
    """The same as a process of its own, to be started in ROOT."""
    return [sys.executable, "-m", "tools.extract", "--input", str(folder), "--output", str(output), *flags]


def times(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_ctime_ns for path in output.glob("[!.]*/**/*")}


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


def cut(folder: Path, place: int, lost: int) -> None:
    path = folder / NAMES[place]
    path.write_bytes(path.read_bytes()[: -lost or None])


def flip(folder: Path, place: int, at: int) -> None:
    content = bytearray((folder / NAMES[place]).read_bytes())
    content[at] ^= 0x10
    (folder / NAMES[place]).write_bytes(content)


def lose(folder: Path, place: int) -> None:
    (folder / NAMES[place]).unlink()


def empty(folder: Path, places: Sequence[int]) -> None:
    for place in places:
        (folder / NAMES[place]).write_bytes(b"")


def add(folder: Path, content: bytes) -> None:
    with (folder / NAMES[3]).open("ab") as last:
        last.write(content)


def replace(folder: Path, content: bytes) -> None:
    """Another content, in four parts again."""
    split_into(folder, SUBJECTS[0], content, 4)


def hold_no_file(folder: Path) -> None:
    replace(folder, tar_of({}))


def damage_a_header(folder: Path) -> None:
    tar = bytearray(plain_tar(frames_of(SUBJECTS[0])))
    tar[3 * (512 + 40_448) + 10] ^= 1
    replace(folder, gzip.compress(bytes(tar), 1))


def zip_parts_one_by_one(folder: Path) -> None:
    tar = plain_tar(frames_of(SUBJECTS[0]))
    for place, name in enumerate(NAMES):
        (folder / name).write_bytes(gzip.compress(tar[place * 60_416 : (place + 1) * 60_416 if place < 3 else None], 1))


def lose_one_of_parts_zipped_one_by_one(folder: Path) -> None:
    zip_parts_one_by_one(folder)
    lose(folder, 3)


def lose_the_end_of_the_tar(folder: Path) -> None:
    replace(folder, gzip.compress(plain_tar(frames_of(SUBJECTS[0]))[: 6 * (512 + 40_448)], 1))


def make_unreadable(folder: Path, place: int) -> None:
    lose(folder, place)
    (folder / NAMES[place]).symlink_to("/proc/self/mem")  # reading its beginning fails whoever runs the test


def double(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (partial(cut, place=3, lost=1000), "partad ends early: it is cut short, or a part after it is missing"),
        (partial(cut, place=3, lost=3), "partad ends early"),
        (partial(cut, place=1, lost=1000), "is damaged .*; .*partab shorter than another part, so probably cut"),
        (partial(empty, places=(1,)), "is damaged .*; .*partab shorter than another part"),
        (partial(empty, places=(3,)), "partad ends early"),
        (partial(empty, places=(0, 1, 2, 3)), r"partad, .* is damaged \(empty file\)"),
        (partial(lose, place=0), "partaa missing"),
        (partial(lose, place=2), "partac missing"),
        (partial(lose, place=3), "partac ends early: it is cut short, or a part after it is missing"),
        (partial(flip, place=0, at=1), "partaa is damaged .*Not a gzip"),
        (partial(flip, place=2, at=9000), "is damaged"),
        (partial(flip, place=3, at=-7), "partad, or a part before it, is damaged .*CRC"),
        (partial(flip, place=3, at=-2), "partad, or a part before it, is damaged .*length"),
        (partial(add, content=b"<html>not found</html>"), "partad, or a part before it, is damaged"),
        (damage_a_header, r"is damaged \(bad header\)"),
        (lose_one_of_parts_zipped_one_by_one, "partac ends early"),
        (lose_the_end_of_the_tar, "partad ends early"),
        (hold_no_file, "holds no files"),
        (partial(make_unreadable, place=0), r"partaa cannot be read \(Input/output error\)"),
        (partial(make_unreadable, place=2), r"partac cannot be read \(Input/output error\)"),
        (double, "remove one of them"),
    ],
)
def test_a_damaged_archive_is_named_and_the_others_go_on(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], said: str
) -> None:
    damage(parts)
    names = sorted(path.name for path in parts.iterdir() if SUBJECTS[0] in path.name)
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(f"{SUBJECTS[0]}: .*{said}", lines[0]), lines[0]
    assert contents(tmp_path / "raw") == frames_of(SUBJECTS[1])
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [SUBJECTS[1]]
    assert sorted(path.name for path in parts.iterdir()) == names


@pytest.mark.parametrize("peculiarity", [partial(add, content=bytes(3000)), zip_parts_one_by_one])
def test_what_is_unusual_is_unpacked(parts: Path, tmp_path: Path, peculiarity: Callable[[Path], None]) -> None:
    peculiarity(parts)
    assert unpack(parts, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {**frames_of(SUBJECTS[0]), **frames_of(SUBJECTS[1])}


def test_a_part_that_vanishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"partaa cannot be read \(No such file"):
        read_archive(Archive("x", (tmp_path / "x.tar.gz.partaa",)), lambda name, content: None)


def test_parts_may_end_anywhere(tmp_path: Path) -> None:
    content = tar_of({"x/a": b"first", "x/b": b"second", f"x/{'long' * 40}": b"third"})
    letters = [a + b for a in ascii_lowercase for b in ascii_lowercase]
    assert 200 < len(content) < len(letters)
    for place in range(len(content)):
        (tmp_path / f"x.tar.gz.part{letters[place]}").write_bytes(content[place : place + 1])
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {"x/a": b"first", "x/b": b"second", f"x/{'long' * 40}": b"third"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    info.mode, info.uid, info.gid = 0o6777, 1234, 1234
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def zipped(members: bytes) -> bytes:
    return gzip.compress(members + bytes(1024), 1)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (member("../escaped"), "points outside"),
        (member("x/../../escaped"), "points outside"),
        (member("x/../y"), "points outside"),
        (member("/tmp/escaped"), "points outside"),
        (member("//tmp/escaped"), "points outside"),
        (member("..", tarfile.DIRTYPE), "points outside"),
        (member("x/link", tarfile.SYMTYPE, "../..") + member("x/link/escaped"), "neither a plain file nor a folder"),
        (member("x/link", tarfile.LNKTYPE, "../escaped"), "neither a plain file nor a folder"),
        (member("x/device", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (member("x/disk", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (member("x/pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (member("x/unknown", b"Q"), "neither a plain file nor a folder"),
        (member("x/gaps", tarfile.GNUTYPE_SPARSE), "neither a plain file nor a folder"),
        (member("x/ä\0b"), "embedded null byte"),
        (member(""), "cannot be written (Is a directory)"),
        (member("x/a", tarfile.DIRTYPE) + member("x/a"), "cannot be written (Is a directory)"),
        (member("x/a") + member("x/a/b"), "cannot be written (File exists)"),
        (member("x/a") + member("x/a/b/c"), "cannot be written (Not a directory)"),
        (member("x/a") + member("x/a", tarfile.DIRTYPE), "cannot be written (File exists)"),
        (member("x/" + "n" * 300), "cannot be written (File name too long)"),
        (member("x/" + "n" * 2_000_000), "a header of 2"),
        (3000 * member("x", tarfile.GNUTYPE_LONGNAME, content=b"x"), "recursion"),
    ],
)
def test_members_that_could_do_harm_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], members: bytes, said: str
) -> None:
    (tmp_path / "male_001_a_a.tar.gz").write_bytes(zipped(member("fine", content=b"x") + members))
    assert unpack(tmp_path, tmp_path / "raw" / "below") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert said in lines[0]
    assert list((tmp_path / "raw" / "below").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["male_001_a_a.tar.gz", "raw"]
    assert not Path("/tmp/escaped").exists()


STEPS = st.sampled_from(["..", ".", "", "a", "b", "...", "a\\b", "~", "a\nb", "ü", "-"])


@given(st.lists(st.lists(STEPS, max_size=5).map("/".join), min_size=1, max_size=3))
def test_nothing_is_taken_that_the_data_filter_refuses_or_alters(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.tar.gz")
        path.write_bytes(zipped(b"".join(member(name) for name in names)))
        taken: list[str] = []
        with contextlib.suppress(ArchiveError):
            read_archive(Archive("x", (path,)), lambda name, content: taken.append(name))
        for name, place in zip(names, taken, strict=False):
            filtered = tarfile.data_filter(tarfile.TarInfo(name), folder).name
            assert os.path.normpath(filtered) == os.path.normpath(name) == os.path.normpath(place)


def test_owners_and_rights_of_the_archive_are_left_out(tmp_path: Path) -> None:
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


def test_two_hundred_damaged_tars_are_refused_or_unpacked(tmp_path: Path) -> None:
    chance, path, taken = random.Random(0), tmp_path / "x.tar.gz", []
    whole = member("x/a", content=b"a" * 700) + member("x/" + "long" * 40) + member("x/b", tarfile.DIRTYPE)
    refused = 0
    for _ in range(200):
        tar = bytearray(whole + bytes(1024))
        for _ in range(chance.randrange(1, 4)):
            tar[chance.randrange(len(whole))] = chance.choice(b"\0\xff\x8007/.LxgS")
        for header in range(0, len(whole), 512):  # tarfile looks no further where the checksum is wrong
            total = 256 + sum(tar[header : header + 148]) + sum(tar[header + 156 : header + 512])
            tar[header + 148 : header + 156] = b"%06o\0 " % total
        path.write_bytes(gzip.compress(bytes(tar[: chance.choice((-1024, -100, None))]), 1))
        try:
            read_archive(Archive("x", (path,)), lambda name, content: taken.append(name))
        except ArchiveError:
            refused += 1
    assert 50 < refused < 190
    assert not [name for name in taken if name.startswith("/") or ".." in name.split("/")]


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    def peak(contents: dict[str, bytes]) -> int:
        shutil.rmtree(tmp_path / "raw", ignore_errors=True)
        (tmp_path / "x.tar.gz").write_bytes(tar_of(contents))
        tracemalloc.start()
        assert extract.extract(extract.ExtractFlags(input=tmp_path, output=tmp_path / "raw", workers=1)) == 0
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    small = peak({"x/file": b"x"})
    assert small < 5e6
    assert peak({"x/file": bytes(150_000_000)}) < small + 5e5
    assert peak({f"x/{number}": b"" for number in range(4000)}) < small + 5e5


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


def begun(output: Path) -> set[int]:
    """When each folder of what is being unpacked was last changed; those of a killed run stay until the next."""
    changed = set()
    for path in output.glob(".unpacking/*"):
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
    while len(list(output.glob(".unpacking/*"))) < 2:
        assert killed.poll() is None
        time.sleep(0.002)
    workers = workers_of(killed)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
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
    needed = f"{sizes[1] / 1e6:.2f}MB, which the largest is" if flags else f"{sum(sizes) / 1e6:.2f}MB, which they are"
    assert f"{SUBJECTS[1]} cannot be unpacked to {output} (No space left on device)" in said
    assert f"the 2 subjects to come need at least {needed} compressed, and 3.15MB are free: make room, then run" in said
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
