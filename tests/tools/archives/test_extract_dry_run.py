"""What ``tools.extract --dry-run`` announces is what the run then does, and it leaves everything as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loaders.system.locks import locked
from tests.dry_runs import bytes_of, read_only, rows, snapshot
from tests.tools.archive_factory import SUBJECTS, contents, frames_of, split_into, tar_of, unpack
from tools.archives import forecast

CUT, GAPPED, WAYLAID = "male_003_f_s", "male_004_a_a", "male_005_a_a"


@pytest.fixture
def mixed(parts: Path, tmp_path: Path) -> Path:
    """Give archives to unpack, one that is there already and three that cannot be."""
    for subject in (CUT, GAPPED, WAYLAID):
        split_into(parts, subject, tar_of(frames_of(subject)), 4)
    cut = parts / f"{CUT}.tar.gz.partad"
    cut.write_bytes(cut.read_bytes()[:-20])
    (parts / f"{GAPPED}.tar.gz.partab").unlink()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / WAYLAID).write_text("a file")
    shutil.copytree(parts, tmp_path / "one")
    for path in (tmp_path / "one").iterdir():
        if not path.name.startswith(SUBJECTS[1]):
            path.unlink()
    assert unpack(tmp_path / "one", tmp_path / "raw") == 0
    return parts


@pytest.mark.parametrize("flags", [[], ["--delete-parts"]])
def test_what_is_announced_is_done(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    output, before = tmp_path / "raw", snapshot(tmp_path)
    capsys.readouterr()
    assert unpack(mixed, output, *flags, "--dry-run") == 1
    said = rows(capsys.readouterr().out)
    assert snapshot(tmp_path) == before
    there, parts_before = contents(output).keys(), len(list(mixed.iterdir()))

    assert unpack(mixed, output, *flags) == 1
    lines = capsys.readouterr().out.splitlines()
    faults = {f"{subject}: {said[subject]}" for subject in (CUT, GAPPED, WAYLAID)}
    assert set(lines[:-1]) == faults
    assert f"{output}: 1 subjects unpacked, 1 were there already, 3 cannot be" in lines[-1]
    assert said["to unpack"].startswith("1 subject, 4 parts, ")
    assert (said["there already"], said["cannot be"]) == ("1 subject", "3 subjects")
    sizes = [len(content) for name, content in contents(output).items() if name not in there]
    assert bytes_of(said["space"]) == pytest.approx(sum(-(-size // 4096) * 4096 for size in sizes), rel=0.01)
    deleted = parts_before - len(list(mixed.iterdir()))
    assert ("to delete" in said) == bool(flags)
    assert deleted == (int(said["to delete"].split()[0]) if flags else 0)


def test_the_beginning_of_an_archive_speaks_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forecast, "_SAMPLE", 4_000_000)
    parts = tmp_path / "parts"
    parts.mkdir()
    split_into(parts, SUBJECTS[0], tar_of(frames_of(SUBJECTS[0], 400)), 2)
    assert unpack(parts, tmp_path / "raw", "--dry-run") == 0
    assert bytes_of(rows(capsys.readouterr().out)["space"]) == pytest.approx(400 * 40960, rel=0.1)


def test_a_part_that_is_cut_and_lies_too_far_on_is_a_warning(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forecast, "_SAMPLE", 1000)
    cut = parts / f"{SUBJECTS[0]}.tar.gz.partac"
    cut.write_bytes(cut.read_bytes()[:-20])
    assert unpack(parts, tmp_path / "raw", "--dry-run") == 0
    assert rows(capsys.readouterr().out)["warning"] == (
        f"{SUBJECTS[0]}: {cut.name} shorter than another part, so probably cut"
    )


def test_deleting_goes_on_without_reading(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack(parts, tmp_path / "raw") == 0
    first = parts / f"{SUBJECTS[0]}.tar.gz.partaa"
    first.rename(f"{first}.unpacked")
    capsys.readouterr()
    assert unpack(parts, tmp_path / "raw", "--delete-parts", "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert said["to delete"].startswith("8 parts, ")
    assert "to compare" not in said[SUBJECTS[0]] and "to compare" in said[SUBJECTS[1]]
    one = sum(path.stat().st_size for path in parts.glob(f"{SUBJECTS[1]}*"))
    assert bytes_of(said["to read"]) == pytest.approx(one, rel=0.01)


def test_where_nothing_can_be_written_it_still_tells(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with read_only(tmp_path / "protected") as folder:
        assert unpack(parts, folder / "raw", "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert said["to unpack"].startswith("2 subjects, 8 parts")
    assert said["warning"].startswith(f"{folder} does not let you write")


def test_a_disk_that_is_too_small_is_a_warning(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for subject, frames in zip(SUBJECTS, (20, 100), strict=True):
        split_into(parts, subject, tar_of(frames_of(subject, frames)), 2)
    assert unpack(parts, small_disk / "raw", "--dry-run") == 0
    assert "4.92 MB are needed and 3.15 MB are free" in rows(capsys.readouterr().out)["warning"]
    assert unpack(parts, small_disk / "raw") == 1
    assert not list(small_disk.glob("raw/*"))


def test_what_the_run_refuses_is_refused_alike(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    cases = ((tmp_path / "nowhere", "raw"), (tmp_path / "empty", "raw"), (parts, "file"), (parts, "file/below"))
    for folder, output in cases:
        told = []
        for flags in (["--dry-run"], []):
            told.append((unpack(folder, tmp_path / output, *flags), capsys.readouterr().err))
        assert told[0] == told[1]
        assert told[0][0] == 2
    with locked(tmp_path / "raw"):
        assert unpack(parts, tmp_path / "raw", "--dry-run") == 2
    assert "another run is writing" in capsys.readouterr().err
