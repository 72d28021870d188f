from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.tools.archive_factory import (
    SUBJECTS,
    command,
    contents,
    link,
    member,
    plain_tar,
    split_into,
    tar_of,
    unpack,
    zipped,
)
from tests.tools.shard_runs import ROOT
from tools.archives.member_writer import MemberWriter
from tools.archives.tar_members import ArchiveError, File

S = "male_001_a_a"
ENV = f"{S}/env_001"
END = bytes(1024)
FIRST, SECOND = member(f"{ENV}/1", content=b"first"), member(f"{ENV}/2", content=b"second")
BOTH = {f"{ENV}/1": b"first", f"{ENV}/2": b"second"}


def packed(folder: Path, content: bytes, subject: str = S) -> Path:
    path = folder / f"{subject}.tar.gz"
    path.write_bytes(content)
    return path


SPARSE = ["gnu", "oldgnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"]


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_files_are_unpacked_and_stay_sparse(tmp_path: Path, kind: str) -> None:
    if b"GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, check=False).stdout:
        pytest.skip("no GNU tar here to pack them")
    folder = tmp_path / S / ("long" * 30)
    folder.mkdir(parents=True)
    names = (folder / "x", folder / ("ü" * 90), folder / os.fsdecode(b"caf\xe9"), tmp_path / S / "y")
    pieces = (1, 4, 30, 2)  # a header holds the places of four, the block after it those of twenty-one
    for path, count, hole_first in zip(names, pieces, (True, False, True, False), strict=True):
        with path.open("wb") as file:
            for piece in range(count):
                file.seek(65536 * (2 * piece + hole_first))
                file.write(b"%d" % piece * 3000)
            file.truncate(65536 * (2 * count + 1))
    with (tmp_path / S / "hole").open("wb") as file:
        file.truncate(100_000)
    wanted = contents(tmp_path / S)
    subprocess.run(
        ["tar", "-S", f"--format={kind}".split()[0], *kind.split()[1:], "-czf", f"{S}.tar.gz", S],
        cwd=tmp_path,
        check=True,
    )
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw" / S) == wanted
    room, needed = (
        sum(path.stat().st_blocks for path in top.rglob("*")) for top in (tmp_path / "raw" / S, tmp_path / S)
    )
    assert room <= needed
    changed = tmp_path / "raw" / S / "hole"
    for altered in (b"\0" * 99_999 + b"1", b"\0" * 99_999, b"\0" * 100_001):
        changed.write_bytes(altered)
        assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 1
    changed.write_bytes(bytes(100_000))
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert not list(tmp_path.glob("*.gz"))


def blocks(folder: Path) -> int:
    return sum(path.stat().st_blocks for path in folder.rglob("*"))


def sparse(size: int, *pieces: tuple[int, int], stored: bytes = b"") -> bytes:
    """A member of the format 1.0: the pieces' number, places and sizes stand before what is stored."""
    numbers = [len(pieces), *itertools.chain.from_iterable(pieces)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    content = table + bytes(-len(table) % 512) + stored
    header = tarfile.TarInfo("made/up")
    header.size = len(content)
    header.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": f"{ENV}/sparse",
        "GNU.sparse.realsize": str(size),
    }
    return header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def test_a_sparse_file_is_what_its_table_says(tmp_path: Path) -> None:
    packed(tmp_path, zipped(FIRST + sparse(12, (2, 3), (7, 2), stored=b"abcde") + SECOND))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == {**BOTH, f"{ENV}/sparse": b"\0\0abc\0\0de\0\0\0"}


@pytest.mark.parametrize(
    ("absurd", "said"),
    [
        (sparse(1 << 62), f"a sparse file of {1 << 62} bytes"),
        (sparse(1 << 80), "a sparse file of"),
        (sparse(9, (2, 3), (4, 2), stored=b"abcde"), "whose pieces overlap"),
        (sparse(9, (7, 3), (2, 2), stored=b"abcde"), "whose pieces overlap"),
        (sparse(4, (2, 3), stored=b"abc"), "whose pieces overlap"),
        (sparse(9, (2, -3), (5, 6), stored=b"abc"), "whose pieces overlap"),
        (sparse(9, (-2, 3), stored=b"abc"), "whose pieces overlap"),
        (sparse(9000, (2, 600), stored=b"abc"), "of another length than is stored of it"),
        (sparse(9000, (2, 3), stored=b"a" * 600), "of another length than is stored of it"),
        (member(f"{ENV}/{'a/' * 300}b"), "is a path of 303 steps"),
        (member(f"{ENV}/{'n' * 300}"), "File name too long"),
        (member(f"{ENV}/{('n' * 200 + '/') * 30}x"), "File name too long"),
        (member(f"{ENV}/\udce9\n{'n' * 300_000}"), r"'env_001/\udce9\nnnn"),
        (member(f"{ENV}/fifo", tarfile.FIFOTYPE), "neither a file nor a folder nor a link"),
        (member("env_001/3"), f"both 'env_001' and '{ENV}' are in the archive"),
    ],
)
def test_a_subject_with_absurd_members_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], absurd: bytes, said: str
) -> None:
    part = packed(tmp_path, zipped(FIRST + absurd + SECOND))
    packed(tmp_path, tar_of({"f": b"x"}), "x")
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{S}: ")
    assert said in lines[0]
    assert len(lines[0]) < 600
    assert contents(tmp_path / "raw") == {"x/f": b"x"}
    assert list(tmp_path.glob("*.gz")) == [part]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(FIRST + END + SECOND + END),
        gzip.compress(FIRST + bytes(512) + SECOND + END),
        gzip.compress(FIRST + bytes(10240 * 40) + SECOND + bytes(700)),
        gzip.compress(END + FIRST + END) + bytes(1000) + gzip.compress(SECOND + END) + bytes(1000),
        gzip.compress(plain_tar({})) + gzip.compress(FIRST + SECOND + END),
        gzip.compress(FIRST) + gzip.compress(SECOND) + gzip.compress(END),
        gzip.compress(FIRST + END + FIRST + END + END + SECOND + END),
    ],
)
def test_what_follows_the_end_of_a_tar_is_unpacked_too(tmp_path: Path, content: bytes) -> None:
    split_into(tmp_path, S, content, 3)
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == BOTH
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert not list(tmp_path.glob("*part*"))


def test_parts_that_are_archives_of_their_own_are_unpacked_whole(tmp_path: Path) -> None:
    for number, (letter, more) in enumerate(
        zip("abc", (b"", link(f"{ENV}/h", f"{ENV}/0", hard=True), b""), strict=True)
    ):
        content = zipped(member(f"{ENV}/{number}", content=b"%d" % number) + (more if number else b""))
        (tmp_path / f"{S}.tar.gz.parta{letter}").write_bytes(content)
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert contents(tmp_path / "raw" / ENV) == {"0": b"0", "1": b"1", "2": b"2", "h": b"0"}
    assert not list(tmp_path.glob("*part*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(FIRST + END + b"garbage"), "what follows the end of a tar is none"),
        (gzip.compress(FIRST + END + b"garbage" * 1000), "what follows the end of a tar is none"),
        (gzip.compress(FIRST + END + bytes(100) + SECOND + END), "what follows the end of a tar is none"),
        (gzip.compress(FIRST + END + SECOND), "ends early"),
        (gzip.compress(FIRST + END + SECOND[:600]), "ends early"),
        (gzip.compress(FIRST + END + gzip.compress(SECOND + END)), "what follows the end of a tar is none"),
        (gzip.compress(FIRST + END) + gzip.compress(SECOND + END)[:-9], "ends early"),
        (gzip.compress(FIRST + END) + b"\x1f", "ends early"),
        (gzip.compress(FIRST + END) + b"\x1f\x8b", "ends early"),
        (gzip.compress(FIRST + END) + b"x", "ends early"),
        (gzip.compress(FIRST + END) + SECOND + END, "is damaged"),
    ],
)
def test_what_follows_the_end_of_a_tar_and_is_none_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    part = packed(tmp_path, content)
    for output in ("raw", "raw", "there"):  # a second time, and with what an earlier version unpacked
        if output == "there":
            (tmp_path / output / ENV).mkdir(parents=True)
            (tmp_path / output / ENV / "1").write_bytes(b"first")
        assert unpack(tmp_path, tmp_path / output, "--delete-parts") == 1
        assert said in capsys.readouterr().out.splitlines()[0]
        assert part.read_bytes() == content
    assert not list((tmp_path / "raw").iterdir())


def test_companions_of_macos_beside_the_subjects_folder_do_not_make_another_layout(tmp_path: Path) -> None:
    files = {f"._{S}": b"1", f"{S}/._env_001": b"2", f"{ENV}/._1": b"3", f"{ENV}/1": b"4", "./.DS_Store": b"5"}
    part = packed(tmp_path, tar_of(files))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw" / S) == {
        f"._{S}": b"1",
        "._env_001": b"2",
        "env_001/._1": b"3",
        "env_001/1": b"4",
        ".DS_Store": b"5",
    }
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert not part.exists()


def test_of_hidden_files_with_one_place_the_first_is_unpacked_and_the_others_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = packed(tmp_path, tar_of({".DS_Store": b"outer", f"{S}/.DS_Store": b"inner", f"{ENV}/1": b"x"}))
    said = "not unpacked, for another hidden file has the place: '.DS_Store'"
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{S}: note: {said}"
    assert contents(tmp_path / "raw" / S) == {".DS_Store": b"outer", "env_001/1": b"x"}
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 1
    assert unpack(tmp_path, tmp_path / "again", "--delete-parts") == 1
    assert f"{S}: {said}; its parts are kept" in capsys.readouterr().out
    assert part.exists()


@pytest.mark.parametrize("hidden", [".DS_Store", "._x", ".nfs0001"])
def test_a_folder_of_hidden_files_is_no_finished_subject(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], hidden: str
) -> None:
    there = tmp_path / "raw" / SUBJECTS[0]
    there.mkdir(parents=True)
    (there / hidden).write_bytes(b"x")
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    assert f"{SUBJECTS[0]}: {there} is in the way and holds no subject: remove it" in capsys.readouterr().out
    assert len(list(parts.iterdir())) == 4
    (there / hidden).unlink()
    assert unpack(parts, tmp_path / "raw") == 0


def test_hidden_files_among_parts_are_no_parts_and_hidden_files_alone_no_subject(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in list(parts.iterdir()):
        (parts / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    packed(parts, tar_of({".DS_Store": b"x", "._env_001": b"x"}))
    assert unpack(parts, tmp_path / "raw", "--delete-parts") == 1
    assert f"{S}: the archive holds no files" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == list(SUBJECTS)
    assert len(list(parts.iterdir())) == 9


def test_backups_of_gnu_tar_are_unpacked(tmp_path: Path) -> None:
    label, folder = member("a label", b"V"), member(f"{ENV}/", b"D", content=b"Y1\0Y2\0\0")
    packed(tmp_path, zipped(label + folder + FIRST + SECOND))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw") == BOTH


def test_names_that_are_not_text_are_kept_as_they_are(tmp_path: Path) -> None:
    name = os.fsdecode(b"Zo\xeb 1.5")
    content = {f"{name}/{os.fsdecode(bytes([0xE9, 10, 27]))}/1": b"x", f"{name}/{'ü' * 100}": b"y"}
    packed(tmp_path, tar_of(content), name)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}  # what is printed is not tested here
    done = subprocess.run(command(tmp_path, tmp_path / "raw"), cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0
    assert contents(tmp_path / "raw") == content


def test_a_name_that_this_disk_takes_for_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' machines have no disk that ignores case; on one, the name that was there first is listed."""
    writer = MemberWriter(tmp_path)
    writer.take(File("A", iter([memoryview(b"first")])))
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "a"]))
    with pytest.raises(ArchiveError, match="'A' is the same name as another's on this disk: not unpacked"):
        writer.take(File("A", iter([memoryview(b"second")])))
    assert (tmp_path / "A").read_bytes() == b"first"
