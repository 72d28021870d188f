from __future__ import annotations

import contextlib
import gzip
import os
import random
import re
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.archive_factory import (
    SUBJECTS,
    contents,
    frames_of,
    link,
    member,
    plain_tar,
    split_into,
    tar_of,
    unpack,
    zipped,
)
from tools.archives.multipart import Archive, read_archive
from tools.archives.tar_members import ArchiveError
from tools.parallel import Progress

NAMES = [f"{SUBJECTS[0]}.tar.gz.parta{letter}" for letter in "abcd"]


def cut(folder: Path, index: int, lost: int) -> None:
    path = folder / NAMES[index]
    path.write_bytes(path.read_bytes()[: -lost or None])


def flip(folder: Path, index: int, at: int) -> None:
    content = bytearray((folder / NAMES[index]).read_bytes())
    content[at] ^= 0x10
    (folder / NAMES[index]).write_bytes(content)


def lose(folder: Path, index: int) -> None:
    (folder / NAMES[index]).unlink()


def empty(folder: Path, indices: Sequence[int]) -> None:
    for index in indices:
        (folder / NAMES[index]).write_bytes(b"")


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
    for index, name in enumerate(NAMES):
        (folder / name).write_bytes(gzip.compress(tar[index * 60_416 : (index + 1) * 60_416 if index < 3 else None], 1))


def lose_one_of_parts_zipped_one_by_one(folder: Path) -> None:
    zip_parts_one_by_one(folder)
    lose(folder, 3)


def lose_the_end_of_the_tar(folder: Path) -> None:
    replace(folder, gzip.compress(plain_tar(frames_of(SUBJECTS[0]))[: 6 * (512 + 40_448)], 1))


def make_unreadable(folder: Path, index: int) -> None:
    lose(folder, index)
    (folder / NAMES[index]).symlink_to("/proc/self/mem")  # reading its beginning fails whoever runs the test


def double(folder: Path) -> None:
    (folder / f"{SUBJECTS[0]}.tar.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (partial(cut, index=3, lost=1000), "partad ends early: it is cut short, or a part after it is missing"),
        (partial(cut, index=3, lost=3), "partad ends early"),
        (partial(cut, index=1, lost=1000), "is damaged .*; .*partab shorter than another part, so probably cut"),
        (partial(empty, indices=(1,)), "is damaged .*; .*partab shorter than another part"),
        (partial(empty, indices=(3,)), "partad ends early"),
        (partial(empty, indices=(0, 1, 2, 3)), r"partad, .* is damaged \(empty file\)"),
        (partial(lose, index=0), "partaa missing"),
        (partial(lose, index=2), "partac missing"),
        (partial(lose, index=3), "partac ends early: it is cut short, or a part after it is missing"),
        (partial(flip, index=0, at=1), "partaa is damaged .*Not a gzip"),
        (partial(flip, index=2, at=9000), "is damaged"),
        (partial(flip, index=3, at=-7), "partad, or a part before it, is damaged .*CRC"),
        (partial(flip, index=3, at=-2), "partad, or a part before it, is damaged .*length"),
        (partial(add, content=b"<html>not found</html>"), "partad, or a part before it, is damaged"),
        (damage_a_header, r"is damaged \(bad header\)"),
        (lose_one_of_parts_zipped_one_by_one, "partac ends early"),
        (lose_the_end_of_the_tar, "partad ends early"),
        (hold_no_file, "holds no files"),
        (partial(make_unreadable, index=0), r"partaa cannot be read \(Input/output error\)"),
        (partial(make_unreadable, index=2), r"partac cannot be read \(Input/output error\)"),
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
        read_archive(Archive("x", (tmp_path / "x.tar.gz.partaa",)), lambda member: None, Progress())


def test_parts_may_end_anywhere(tmp_path: Path) -> None:
    content = tar_of({"x/a": b"first", "x/b": b"second", f"x/{'long' * 40}": b"third"})
    letters = [a + b for a in ascii_lowercase for b in ascii_lowercase]
    assert 200 < len(content) < len(letters)
    for index in range(len(content)):
        (tmp_path / f"x.tar.gz.part{letters[index]}").write_bytes(content[index : index + 1])
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {"x/a": b"first", "x/b": b"second", f"x/{'long' * 40}": b"third"}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (member("../escaped"), "points outside"),
        (member("x/../../escaped"), "points outside"),
        (member("x/../y"), "points outside"),
        (member("/tmp/escaped"), "points outside"),
        (member("//tmp/escaped"), "points outside"),
        (member("..", tarfile.DIRTYPE), "points outside"),
        (member("x/device", tarfile.CHRTYPE), "neither a file nor a folder nor a link"),
        (member("x/disk", tarfile.BLKTYPE), "neither a file nor a folder nor a link"),
        (member("x/pipe", tarfile.FIFOTYPE), "neither a file nor a folder nor a link"),
        (member("x/unknown", b"Q"), "neither a file nor a folder nor a link"),
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
            read_archive(Archive("x", (path,)), lambda member: taken.append(member.name), Progress())
        for name, index in zip(names, taken, strict=False):
            filtered = tarfile.data_filter(tarfile.TarInfo(name), folder).name
            assert os.path.normpath(filtered) == os.path.normpath(name) == os.path.normpath(index)


def test_two_hundred_damaged_tars_are_refused_or_unpacked(tmp_path: Path) -> None:
    chance, path, taken = random.Random(0), tmp_path / "x.tar.gz", []
    whole = member("x/a", content=b"a" * 700) + member("x/" + "long" * 30) + member("x/b", tarfile.DIRTYPE)
    whole += link("x/l", "a") + link("x/h", "x/a", hard=True)
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
            read_archive(Archive("x", (path,)), lambda member: taken.append(member.name), Progress())
        except ArchiveError:
            refused += 1
    assert 50 < refused < 190
    assert not [name for name in taken if name.startswith("/") or ".." in name.split("/")]
