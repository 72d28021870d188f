from __future__ import annotations

import errno
import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.archive_factory import contents, link, member, unpack, zipped
from tools.archives.member_writer import MemberWriter
from tools.archives.multipart import Archive, read_archive
from tools.archives.tar_members import ArchiveError
from tools.parallel import Progress

S = "male_001_a_a"
ROT = member(f"{S}/env_001/cam_down/rot/{S}_000001.json", content=b"{}")


def packed(folder: Path, *members: bytes, subject: str = S) -> Path:
    path = folder / f"{subject}.tar.gz"
    path.write_bytes(zipped(b"".join(members)))
    return path


def links(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): str(path.readlink()) for path in folder.rglob("*") if path.is_symlink()}


def test_rot_folders_that_are_links_are_unpacked_as_in_the_release(tmp_path: Path) -> None:
    texts = ("../../env_001/cam_down/rot", "./../..//env_001/./cam_down/rot/")
    names = [f"{S}/env_00{number}/cam_down/rot" for number in (2, 3)]
    # a link may come before what it leads to
    packed(tmp_path, *(link(name, text) for name, text in zip(names, texts, strict=True)), ROT)
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert links(tmp_path / "raw") == dict.fromkeys(names, texts[0])
    assert (tmp_path / "raw" / names[1] / f"{S}_000001.json").read_bytes() == b"{}"


@pytest.mark.parametrize("prefix", ["", "./", f"{S}/"])
@pytest.mark.parametrize(
    ("name", "text", "made"),
    [
        ("a/l", "f", "f"),
        ("a/l", "../env/f", "../env/f"),
        ("l", "a/f", "a/f"),
        ("a/l", "..", ".."),
        ("a/l", "absent/file", "absent/file"),
        ("a/l", "l", "l"),
        ("a/l", "../a/../env/f", "../env/f"),
        ("a/l", "../env/absent/../f", "../env/f"),
        ("a/l", "~/$HOME/..\\x", "~/$HOME/..\\x"),
        ("a/l", "\udce9", "\udce9"),
    ],
)
def test_a_link_within_the_subject_leads_where_it_led(
    tmp_path: Path, prefix: str, name: str, text: str, made: str
) -> None:
    packed(tmp_path, member(f"{prefix}env/f", content=b"x"), member(f"{prefix}a/f"), link(f"{prefix}{name}", text))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert links(tmp_path / "raw" / S) == {name: made}


def test_a_link_may_leave_the_subject_if_it_comes_back(tmp_path: Path) -> None:
    packed(tmp_path, member(f"{S}/env/f"), link(f"{S}/a/l", f"../../{S}/env/f"))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert links(tmp_path / "raw" / S) == {"a/l": "../env/f"}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (link("x/l", ".."), "outside"),
        (link("x/l", "../y"), "outside"),
        (link("x/a/l", "../../other/f"), "outside"),
        (link("x/l", "/etc/passwd"), "outside"),
        (link("x/l", "//etc/passwd"), "outside"),
        (link("x/l", "a/../../../x"), "outside"),
        (link("x/l", ""), "outside"),
        (link("l", ".."), "outside"),
        (link("a/l", "../../x/f"), "outside"),
        (link("..", "x"), "points outside"),
        (link("/tmp/escaped", "x"), "points outside"),
        (link("x/l", "../../..") + member("x/l/escaped"), "outside"),
        (link("x/l", "..") + link("x/l", "a"), "outside"),
        (link("x/l", "a") + member("x/l/escaped"), "lies below 'l', which is a link"),
        (link("x/l", "a") + member("x/l/b", tarfile.DIRTYPE), "lies below"),
        (link("x/l", "a") + link("x/l/b/c", "a"), "lies below"),
        (link("x/l", "a") + link("x/l/h", "x/f", hard=True), "lies below"),
        (member("x/l/f") + link("x/l", "a"), r"'l' cannot be written \(Is a directory\)"),
        # out of a link, '..' leads elsewhere than its text says
        (link("x/a/b/up", "..") + link("x/a/b/l", "up/../.."), "goes back out of a link"),
        (link("x/a/b/l", "up/z/../../..") + link("x/a/b/up", ".."), "goes back out of a link"),
        (link("x/h", "../f", hard=True), "points outside"),
        (link("x/h", "/etc/passwd", hard=True), "points outside"),
        (link("x/h", "x/absent", hard=True), "'absent', which is no file before it"),
        (link("x/h", "x", hard=True), "which is no file before it"),
        (link("x/h", "x/h", hard=True), "which is no file before it"),
        (link("x/h", "x/later", hard=True) + member("x/later"), "which is no file before it"),
        (link("x/a/l", "..") + link("x/h", "x/a/l", hard=True), "outside"),
    ],
)
def test_links_that_could_do_harm_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], members: bytes, said: str
) -> None:
    packed(tmp_path, member("x/f", content=b"x"), members, subject="x")
    packed(tmp_path, ROT)
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(f"x: .*{said}.*: not unpacked", lines[0]), lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "x.tar.gz"]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [S]
    assert not Path("/tmp/escaped").exists()


STEPS = st.sampled_from(["a", "b", "c", ".."])
NAMES = st.lists(STEPS, min_size=1, max_size=3).map("/".join)
TEXTS = st.lists(STEPS | st.just("."), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.SYMTYPE] * 4 + [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE])


@settings(deadline=None)
@given(st.lists(st.tuples(KINDS, NAMES, TEXTS), min_size=1, max_size=6))
def test_no_archive_leads_outside_and_every_link_leads_where_it_led(members: list[tuple[bytes, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        ours, theirs, empty = folder / "ours/x", folder / "theirs/deep/x", folder / "empty"
        for new in (ours, theirs, empty):
            new.mkdir(parents=True)
        path = packed(folder, member("file"), *(member(name, kind, text) for kind, name, text in members), subject="x")
        try:
            read_archive(Archive("x", (path,)), MemberWriter(ours).take, Progress())
        except ArchiveError:
            accepted = False
        else:
            accepted = True
        assert sorted(path.name for path in folder.iterdir()) == ["empty", "ours", "theirs", "x.tar.gz"]
        assert list(ours.parent.iterdir()) == [ours]
        made = [path for path in ours.rglob("*") if path.is_symlink()]
        assert all(leads_to(path, ours) is not None for path in made)
        if not accepted:
            return
        for kind, name, text in members:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, text
            tarfile.data_filter(header, str(empty))  # raises where we are laxer
        try:
            with tarfile.open(path) as tar:
                tar.extractall(theirs, filter="fully_trusted")
        except (OSError, RecursionError):  # it cannot link a name to itself
            return
        if len({os.path.normpath(name) for _, name, _ in members}) < len(members):
            return  # it leaves a link where a folder comes later
        for path in made:
            assert leads_to(path, ours) == leads_to(theirs / path.relative_to(ours), theirs)


def leads_to(path: Path, folder: Path) -> str | None:
    """Where in a folder a link leads; None if that is outside, and what it says if it leads nowhere."""
    if not path.exists():
        path = path.parent / os.path.normpath(path.readlink())
    relative = os.path.relpath(os.path.realpath(path), folder)
    return None if relative.startswith("..") else relative


def test_a_hard_link_is_another_name_of_its_file(tmp_path: Path) -> None:
    packed(
        tmp_path,
        member(f"{S}/a", content=b"first"),
        link(f"{S}/env/b", f"./{S}/a", hard=True),
        link(f"{S}/env/b", f"{S}/a", hard=True),
        link(f"{S}/a", f"{S}/a", hard=True),
        link(f"{S}/env/l", "../a"),
        link(f"{S}/l", f"{S}/env/b", hard=True),
    )
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw" / S) == dict.fromkeys(("a", "env/b", "env/l", "l"), b"first")
    assert (tmp_path / "raw" / S / "a").samefile(tmp_path / "raw" / S / "env/b")
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert not list(tmp_path.glob("*.gz"))


def test_a_hard_link_to_a_link_is_that_link_again(tmp_path: Path) -> None:
    packed(tmp_path, member("f"), link("a/l", "../f"), link("a/b/h", "a/l", hard=True), member("a/f"))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert links(tmp_path / "raw" / S) == {"a/l": "../f", "a/b/h": "../f"}


def test_of_a_name_that_comes_twice_the_later_stays_and_its_other_names_keep_the_earlier(tmp_path: Path) -> None:
    packed(
        tmp_path,
        *(member("a", content=b"first"), link("b", "a", hard=True), member("a", content=b"2nd")),
        *(link("c", "a"), member("c", content=b"3rd"), member("d"), link("d", "a")),
    )
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert contents(tmp_path / "raw" / S) == {"a": b"2nd", "b": b"first", "c": b"3rd", "d": b"2nd"}
    assert links(tmp_path / "raw" / S) == {"d": "a"}


def changed_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def copied(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("l", Path.unlink),
        ("l", changed_link),
        ("l", copied),
        ("h", Path.unlink),
        ("h", changed_link),
        ("h", lambda path: path.write_bytes(b"other")),
        ("empty", Path.rmdir),
    ],
)
def test_parts_are_deleted_only_when_links_and_folders_are_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[Path], None]
) -> None:
    part = packed(tmp_path, member("f"), link("h", "f", hard=True), link("l", "env"), member("empty", tarfile.DIRTYPE))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    change(tmp_path / "raw" / S / name)
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 1
    assert f"{S}: is there, but not as its parts have it ('" in capsys.readouterr().out
    assert part.exists()


def test_of_a_name_that_comes_twice_the_later_is_compared(tmp_path: Path) -> None:
    part = packed(tmp_path, member("a", content=b"first"), member("a", content=b"2nd"), link("l", "b"), link("l", "a"))
    assert unpack(tmp_path, tmp_path / "raw") == 0
    assert unpack(tmp_path, tmp_path / "raw", "--delete-parts") == 0
    assert not part.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_links_they_are_skipped_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The tests' machines cannot mount FAT, so the calls are made to fail as they do there."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    part = packed(
        tmp_path,
        *(ROT, link(f"{S}/env_002/rot", "../env_001/cam_down/rot"), member(f"{S}/f", content=b"x")),
        *(link(f"{S}/g", f"{S}/f", hard=True), link(f"{S}/h", f"{S}/g", hard=True)),
    )
    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    note = (
        "not unpacked, for the file system has no links: "
        "'g' -> 'f', 'h' -> 'g', 'env_002/rot' -> '../env_001/cam_down/rot'"
    )
    for output, flags, status, said in (
        ("raw", [], 0, f"{S}: note: {note}\n"),
        ("again", ["--delete-parts"], 1, f"{S}: {note}; its parts are kept\n"),
        ("raw", ["--delete-parts"], 1, f"{S}: is there, but not as its parts have it"),
    ):
        assert unpack(tmp_path, tmp_path / output, *flags) == status
        assert capsys.readouterr().out.startswith(said)
        assert contents(tmp_path / output / S) == {f"env_001/cam_down/rot/{S}_000001.json": b"{}", "f": b"x"}
        assert part.exists()
