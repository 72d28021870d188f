from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.tools.shard_runs import tree
from tools import arrange
from tools.dataset.layout import SUBJECTS, find_recordings

MODES = ("move", "copy", "symlink", "hardlink")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for subject in ("female_001_a_a", "male_008_a_a", "male_014_f_s", "somebody"):
        folder = tmp_path / "raw" / subject / "env_001" / "cam_down" / "rgba"
        folder.mkdir(parents=True)
        (folder / f"{subject}.rgba.000001.png").write_text(subject)
    for name in (".female_002_a_a.partial", "female_002_a_a.partial", "._female_001_a_a"):
        (tmp_path / "raw" / name).mkdir()
    return tmp_path / "raw"


def place(raw: Path, output: Path, mode: str) -> int:
    return arrange.main(["--input", str(raw), "--output", str(output), "--mode", mode])


@pytest.mark.parametrize("mode", MODES)
def test_subjects_land_in_their_splits(
    raw: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place(raw, tmp_path / "data", mode) == 0
    found = {(e.split, e.subject): e.files("rgba")[1] for e in find_recordings(tmp_path / "data")}
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
    assert {e.split for e in find_recordings(raw)} == {"train", "val", "test"}
    assert place(raw, raw, "move") == 0


def test_a_killed_copy_is_begun_again(raw: Path, tmp_path: Path) -> None:
    half = tmp_path / "data" / "TrainSet" / "female_001_a_a.partial"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("")
    assert place(raw, tmp_path / "data", "copy") == 0
    assert sorted(path.name for path in half.parent.iterdir()) == ["female_001_a_a"]
    assert not list((tmp_path / "data").rglob("rubbish"))


LINKS = {
    "relative": ("../env_001/cam_down/rgba", "../env_001/cam_down/rgba"),
    "absolute": ("{subject}/env_001/cam_down", "../env_001/cam_down"),
    "file": ("../env_001/cam_down/rgba/image.png", "../env_001/cam_down/rgba/image.png"),
    "missing": ("../env_009/rot", "../env_009/rot"),
    "above": ("..", ".."),
    "loop": ("loop", "loop"),
    "gone": ("/nowhere/at/all", "/nowhere/at/all"),
}
"""Links in a subject's env_002: where they lead, and where once they are arranged."""


@pytest.mark.parametrize("mode", ["move", "copy", "hardlink"])
def test_links_within_a_subject_stay_links_and_others_are_copied(
    raw: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):  # each is found in the other
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("from elsewhere")
        (tmp_path / name / "next").symlink_to({"one": "../other", "other": "../one"}[name])
    subject = raw / "male_008_a_a"
    (subject / "env_002").mkdir()
    (subject / "env_001" / "cam_down" / "rgba" / "image.png").write_text("an image")
    for name, (to, _) in LINKS.items():
        (subject / "env_002" / name).symlink_to(to.format(subject=subject))
    foreign = {
        "folder": "../../one",
        "absolute_folder": tmp_path / "one",
        "notes": "../../one/notes",
        "around": "../..",
    }
    for name, elsewhere in foreign.items():
        (subject / name).symlink_to(elsewhere)
    assert place(raw, tmp_path / "data", mode) == 0
    assert "links that lead nowhere: 3, the first is " in capsys.readouterr().out
    if mode != "move":
        shutil.rmtree(raw)  # nothing may lead there any longer
    arranged = tmp_path / "data" / "ValSet" / "male_008_a_a"
    found = {name: str((arranged / "env_002" / name).readlink()) for name in LINKS}
    assert found == {name: to for name, (_, to) in LINKS.items()}
    assert (arranged / "env_002" / "file").read_text() == "an image"
    for name in ("folder/notes", "absolute_folder/notes", "folder/next/notes", "notes"):
        assert (arranged / name).read_text() == "from elsewhere"
    assert [(arranged / name).is_symlink() for name in ("folder", "notes", "around")] == [*[mode == "move"] * 2, True]


def test_where_no_links_can_be_made_their_content_is_copied(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cam_down = raw / "male_008_a_a" / "env_001" / "cam_down"
    (cam_down / "again").symlink_to("rgba")
    (cam_down / "gone").symlink_to("nowhere")
    (cam_down / "above").symlink_to("..")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)  # as vfat does
    assert place(raw, tmp_path / "data", "copy") == 0
    assert "links that lead nowhere: 2, the first is " in capsys.readouterr().out
    arranged = tmp_path / "data" / "ValSet" / "male_008_a_a" / "env_001" / "cam_down"
    assert sorted(path.name for path in arranged.iterdir()) == ["again", "rgba"]
    assert not (arranged / "again").is_symlink()
    assert tree(arranged / "again") == tree(arranged / "rgba")


def test_a_subject_that_is_a_link_is_moved_and_its_folder_stays(raw: Path, tmp_path: Path) -> None:
    (raw / "male_008_a_a").rename(tmp_path / "elsewhere")
    (raw / "male_008_a_a").symlink_to("../elsewhere")
    assert place(raw, tmp_path / "data", "move") == 0
    assert not (raw / "male_008_a_a").is_symlink()
    assert tree(tmp_path / "data" / "ValSet" / "male_008_a_a") == tree(tmp_path / "elsewhere") != {}


def test_links_survive_a_move_to_another_disk(raw: Path, small_disk: Path) -> None:
    cam_down = raw / "male_008_a_a" / "env_001" / "cam_down"
    (cam_down / "again").symlink_to(cam_down / "rgba")
    assert place(raw, small_disk / "data", "move") == 0
    assert not cam_down.exists()
    moved = small_disk / "data" / "ValSet" / "male_008_a_a" / "env_001" / "cam_down" / "again"
    assert str(moved.readlink()) == "rgba"


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
