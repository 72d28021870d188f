"""``tools.validate --prune`` where recordings share files, or where not all of them can be moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.command import BAD_INPUT, CHECK_FAILED, OK
from tests.tools.shard_runs import tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset
from tools import validate
from tools.dataset.layout import SET_FOLDERS

pytestmark = pytest.mark.slow


@pytest.fixture
def dataset(tmp_path: Path) -> TinyDataset:
    """Two recordings of a subject; the second one's rotations are a link to the first one's."""
    subjects = [("val", "male_008_a_a")]
    return make_dataset(tmp_path / "data", 3, subjects=subjects, environments=("env_001", "env_002"))


def prune(dataset: TinyDataset, aside: Path) -> int:
    return validate.main(["--dataset", str(dataset.root), "--prune", str(aside), "--workers", "1"])


def moved(aside: Path) -> set[str]:
    return {"/".join(path.relative_to(aside).parts[2:]) for path in aside.rglob("*") if path.is_file()}


def test_another_recordings_files_stay(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tree(dataset.recordings[0].path)
    dataset.file("rgba", 2, 1).unlink()
    assert prune(dataset, tmp_path / "aside") == CHECK_FAILED
    assert tree(dataset.recordings[0].path) == first
    names = ("json/male_008_a_a_", "worldp/male_008_a_a.worldp.", "depth/male_008_a_a.depth.")
    expected = {f"env_002/cam_down/{name}000002" for name in (*names, "objectId/male_008_a_a.objectId.")}
    assert {name.rpartition(".")[0] for name in moved(tmp_path / "aside")} == expected
    folder = dataset.recordings[1].path / "rot"
    assert f"not moved: 1 files in {folder}: a link shares them" in capsys.readouterr().out
    assert validate.main(["--dataset", str(dataset.root)]) == OK


def test_what_a_sound_frame_sees_through_a_link_stays(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = dataset.file("depth", 2), dataset.file("depth", 2, 1)
    second.unlink()
    second.symlink_to(first)
    other = tree(dataset.recordings[1].path)
    dataset.file("rgba", 2).unlink()
    assert prune(dataset, tmp_path / "aside") == CHECK_FAILED
    assert tree(dataset.recordings[1].path) == other
    assert {name.split("/")[2] for name in moved(tmp_path / "aside")} == {"json", "worldp", "objectId"}
    said = capsys.readouterr().out
    for modality in ("depth", "rot"):
        assert f"not moved: 1 files in {dataset.recordings[0].path / modality}: a link shares them" in said


def test_a_file_that_two_recordings_see_is_moved_once(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recording in (0, 1):
        dataset.file("rgba", 2, recording).unlink()
    assert prune(dataset, tmp_path / "aside") == CHECK_FAILED
    assert "env_001/cam_down/rot/male_008_a_a_000002.json" in moved(tmp_path / "aside")
    said = capsys.readouterr().out
    assert "moved 9 files" in said
    assert "not moved" not in said
    assert validate.main(["--dataset", str(dataset.root)]) == OK


def test_a_recording_under_two_names_is_moved_once(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset.root / SET_FOLDERS["val"] / "male_008_a_a" / "env_003").symlink_to("env_001")
    dataset.file("rgba", 2).unlink()
    assert prune(dataset, tmp_path / "aside") == CHECK_FAILED
    assert "moved 4 files" in capsys.readouterr().out
    assert len(moved(tmp_path / "aside")) == 4
    assert {name.partition("/")[0] for name in moved(tmp_path / "aside")} == {"env_001"}
    assert validate.main(["--dataset", str(dataset.root)]) == OK


def test_all_names_of_a_frames_file_are_moved(dataset: TinyDataset, tmp_path: Path) -> None:
    image = dataset.file("rgba", 2)
    image.with_name("male_008_a_a.rgba.2.png").hardlink_to(image)
    image.with_name("male_008_a_a.rgba.0002.png").symlink_to(image.name)
    dataset.file("json", 2).unlink()
    assert prune(dataset, tmp_path / "aside") == CHECK_FAILED
    assert {name for name in moved(tmp_path / "aside") if "/rgba/" in name} == {
        f"env_001/cam_down/rgba/male_008_a_a.rgba.{number}.png" for number in ("2", "0002", "000002")
    }
    assert validate.main(["--dataset", str(dataset.root)]) == OK


@pytest.mark.parametrize("obstacle", ["file", "link to nothing", "file for a folder", "no room"])
def test_nothing_is_moved_unless_all_can_be(
    dataset: TinyDataset,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    obstacle: str,
) -> None:
    aside = tmp_path / "aside" if obstacle != "no room" else request.getfixturevalue("small_disk") / "aside"
    for recording in (0, 1):
        dataset.file("json", 2, recording).unlink()
    last = aside / dataset.file("objectId", 2, 1).relative_to(dataset.root)
    if obstacle == "no room":
        dataset.file("rgba", 2).write_bytes(bytes(4_000_000))
    elif obstacle == "file for a folder":
        last.parent.parent.mkdir(parents=True)
        last.parent.write_text("in the way")
    else:
        last.parent.mkdir(parents=True)
        last.symlink_to("nowhere") if obstacle == "link to nothing" else last.write_text("in the way")
    before = tree(dataset.root)
    assert prune(dataset, aside) == BAD_INPUT
    assert tree(dataset.root) == before
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert (str(aside) if obstacle == "no room" else str(last)) in message
