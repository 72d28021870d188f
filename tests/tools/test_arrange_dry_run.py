"""What ``tools.arrange --dry-run`` announces is what the run then does, and it leaves everything as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dry_runs import bytes_of, read_only, rows, snapshot
from tools import arrange
from tools.dataset.layout import SET_FOLDERS, find_recordings


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Give four subjects of the table, one that it does not know, and links of all kinds."""
    for subject in ("female_001_a_a", "female_002_a_a", "male_008_a_a", "male_014_f_s", "somebody"):
        for environment in ("env_001", "env_002"):
            folder = tmp_path / "raw" / subject / environment / "cam_down" / "rgba"
            folder.mkdir(parents=True)
            (folder / f"{subject}.rgba.000001.png").write_bytes(bytes(10_000))
    for name in ("one", "other"):  # each is found in the other
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_bytes(bytes(3000))
        (tmp_path / name / "next").symlink_to({"one": "../other", "other": "../one"}[name])
    subject = tmp_path / "raw" / "male_008_a_a"
    for name, to in {
        "env_002/cam_down/again": "rgba",
        "env_002/cam_down/rot": "../../env_009/rot",
        "env_002/gone": "/nowhere/at/all",
        "folder": "../../one",
        "notes": "../../other/notes",
        "around": "../..",
    }.items():
        (subject / name).symlink_to(to)
    return tmp_path / "raw"


def place(raw: Path, output: Path, *flags: str) -> int:
    return arrange.main(["--input", str(raw), "--output", str(output), *flags])


def written(before: dict[int, int], output: Path) -> list[int]:
    """Sizes of the files in the output that are not the same files as those before."""
    files = {path.stat().st_ino: path.stat().st_size for path in output.rglob("*") if path.is_file()}
    return [size for number, size in files.items() if number not in before]


def check(raw: Path, output: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Compare what is announced with what is done; return what was announced."""
    before = snapshot(raw.parent)
    assert place(raw, output, "--mode", mode, "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert snapshot(raw.parent) == before
    there = {recording.subject for recording in find_recordings(output)} if output.exists() else set()
    files = {path.stat().st_ino: 0 for path in raw.parent.rglob("*") if path.is_file()}
    assert place(raw, output, "--mode", mode) == 0
    done = capsys.readouterr().out
    recordings = find_recordings(output)
    for split, name in SET_FOLDERS.items():
        mine = [recording for recording in recordings if recording.split == split]
        placed = [recording for recording in mine if recording.subject not in there]
        assert said[name].startswith(f"1 subject with {len(placed)} recordings to {mode}")
        assert ("1 subject with 2 recordings there already" in said[name]) == (len(mine) > len(placed))
    copies = written(files, output)
    assert ("to copy" in said) == bool(copies)
    if copies:
        assert said["to copy"] == f"{len(copies)} file{'s' * (len(copies) > 1)}"
        assert bytes_of(said["space"]) == pytest.approx(sum(copies), rel=0.01)
    assert f"unknown, left where they are: {said['unknown']}" in done
    assert f"missing: {said['missing']}" in done
    if "dead links" in said:
        assert f"links that lead nowhere: {said['dead links']}" in done
    return said


@pytest.mark.parametrize("mode", ["move", "copy", "symlink", "hardlink"])
def test_what_is_announced_is_done(raw: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "TrainSet").mkdir(parents=True)
    (raw / "female_002_a_a").rename(tmp_path / "data" / "TrainSet" / "female_002_a_a")
    said = check(raw, tmp_path / "data", mode, capsys)
    assert ("dead links" in said) == (mode != "symlink")
    # the subjects' six files and three that links bring in
    expected = {"copy": "9 files", "hardlink": "3 files"}
    assert said.get("to copy") == expected.get(mode)
    assert said.get("to link") == ("6 files" if mode == "hardlink" else None)


def test_a_move_to_another_disk_copies(raw: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "female_002_a_a").rename(raw / "nobody")
    assert check(raw, small_disk / "data", "move", capsys)["to copy"] == "9 files"


def test_what_does_not_fit_is_a_warning(raw: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "male_008_a_a" / "large").write_bytes(bytes(4_000_000))
    assert place(raw, small_disk / "data", "--mode", "copy", "--dry-run") == 0
    assert "4.09 MB are needed and 3.15 MB are free" in rows(capsys.readouterr().out)["warning"]


def test_where_nothing_can_be_written_it_still_tells(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with read_only(tmp_path / "protected") as folder:
        assert place(raw, folder / "data", "--mode", "copy", "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert said["ValSet"] == "1 subject with 2 recordings to copy"
    assert said["warning"].startswith(f"{folder} does not let you write")


def test_what_the_run_refuses_is_refused_alike(
    raw: Path, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data" / "ValSet").mkdir(parents=True)
    (tmp_path / "data" / "ValSet" / "male_008_a_a").symlink_to("nowhere")
    for folder, output, mode, status in (
        (tmp_path / "nowhere", tmp_path / "new", "copy", 2),
        (tmp_path / "data", tmp_path / "new", "copy", 2),
        (raw, tmp_path / "file", "copy", 1),
        (raw, tmp_path / "file" / "below", "symlink", 1),
        (raw, small_disk / "new", "hardlink", 1),
        (raw, tmp_path / "data", "copy", 1),
    ):
        before = snapshot(tmp_path)
        told = []
        for flags in (["--dry-run"], []):
            told.append((place(folder, output, "--mode", mode, *flags), capsys.readouterr().err))
        assert told[0] == told[1]
        assert told[0][0] == status
        assert told[0][1].count("\n") == 1
        assert snapshot(tmp_path) == before  # conflicts are found before the first subject is placed
