from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.shard_runs import tree
from tools import arrange
from tools.dataset import SUBJECTS, find_environments

MODES = ("move", "copy", "symlink", "hardlink")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for subject in ("female_001_a_a", "male_008_a_a", "male_014_f_s", "somebody"):
        folder = tmp_path / "raw" / subject / "env_001" / "cam_down" / "rgba"
        folder.mkdir(parents=True)
        (folder / f"{subject}.rgba.000001.png").write_text(subject)
    (tmp_path / "raw" / ".female_002_a_a.partial").mkdir()
    return tmp_path / "raw"


def place(raw: Path, output: Path, mode: str) -> int:
    return arrange.main(["--input", str(raw), "--output", str(output), "--mode", mode])


@pytest.mark.parametrize("mode", MODES)
def test_subjects_land_in_their_splits(
    raw: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place(raw, tmp_path / "data", mode) == 0
    found = {(e.split, e.subject): e.files("rgba")[1] for e in find_environments(tmp_path / "data")}
    assert set(found) == {("train", "female_001_a_a"), ("val", "male_008_a_a"), ("test", "male_014_f_s")}
    assert all(path.read_text() == subject for (_, subject), path in found.items())
    said = capsys.readouterr().out
    assert "3 subjects placed" in said
    assert "unknown, left where they are: 1: somebody" in said
    assert f"missing: {sum(map(len, SUBJECTS.values())) - 3}: female_002_a_a, " in said
    assert (raw / "somebody").is_dir()
    assert (raw / "female_001_a_a").exists() == (mode != "move")
    path = found["train", "female_001_a_a"]
    assert path.stat().st_nlink == (2 if mode == "hardlink" else 1)
    assert (tmp_path / "data" / "TrainSet" / "female_001_a_a").is_symlink() == (mode == "symlink")


@pytest.mark.parametrize("mode", MODES)
def test_a_second_run_changes_nothing(raw: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert place(raw, tmp_path / "data", mode) == 0
    before = tree(tmp_path)
    capsys.readouterr()
    assert place(raw, tmp_path / "data", mode) == 0
    assert tree(tmp_path) == before
    assert "0 subjects placed" in capsys.readouterr().out


def test_the_dataset_may_grow_where_it_lies(raw: Path) -> None:
    assert place(raw, raw, "move") == 0
    assert {e.split for e in find_environments(raw)} == {"train", "val", "test"}
    assert place(raw, raw, "move") == 0


def test_a_killed_copy_is_begun_again(raw: Path, tmp_path: Path) -> None:
    half = tmp_path / "data" / "TrainSet" / "female_001_a_a.partial"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("")
    assert place(raw, tmp_path / "data", "copy") == 0
    assert sorted(path.name for path in half.parent.iterdir()) == ["female_001_a_a"]
    assert not list((tmp_path / "data").rglob("rubbish"))


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, said in ((tmp_path / "nowhere", "is not a folder"), (tmp_path, "holds no folder of a known subject")):
        assert place(folder, tmp_path / "data", "move") == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1


def test_what_stands_in_the_way_is_named(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "TrainSet").write_text("a file, not a folder")
    assert place(raw, tmp_path / "data", "copy") == 1
    message = capsys.readouterr().err
    assert "female_001_a_a cannot be placed" in message
    assert message.count("\n") == 1
