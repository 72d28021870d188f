from __future__ import annotations

from pathlib import Path

import pytest

from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import make, skipped, tree
from tests.tools.tiny_dataset import make_dataset, plant_faults


def test_files_pair_by_number_where_positions_disagree(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 6, subjects=[("train", "female_003_a_a")], modalities=("rgba", "json"))
    dataset.file("rgba", 2).unlink()
    dataset.file("json", 5).unlink()
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "json", "--image-format", "source") == 0
    split = ShardSet(tmp_path / "set", "train")
    assert sorted(split.meta(range(len(split)))[:, 2]) == [1, 3, 4, 6]
    for index in range(len(split)):
        frame = int(split.meta([index])[0, 2])
        assert split.member(index, "rgba.png").tobytes() == dataset.file("rgba", frame).read_bytes()
        assert split.member(index, "json").tobytes() == dataset.file("json", frame).read_bytes()
    assert skipped(tmp_path / "set") == {("env_001", 2): "no rgba file", ("env_001", 5): "no json file"}


def test_a_frame_of_which_only_another_modality_is_left_is_listed(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 3, subjects=[("train", "female_001_a_a")])
    for modality in ("rgba", "json", "worldp", "objectId"):
        dataset.file(modality, 3).unlink()
    assert make(dataset.root, tmp_path / "set") == 0
    assert skipped(tmp_path / "set") == {("env_001", 3): "no json file, no rgba file, no worldp file"}


@pytest.mark.slow
def test_every_unusable_frame_is_skipped_with_its_reason_and_no_other(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 14, subjects=[("train", "female_001_a_a")])
    expected = plant_faults(dataset)
    dataset.edit_json(13, char_height=None)  # known to happen, and harmless
    assert make(dataset.root, tmp_path / "one", "--samples-per-shard", "1") == 0
    found = skipped(tmp_path / "one")
    assert found.pop(("env_001", 12)).startswith("not JSON: ")
    assert found == expected
    split = ShardSet(tmp_path / "one", "train", checksums=True)
    assert sorted(split.meta(range(len(split)))[:, 2]) == [13, 14]
    # the same frames by two workers, and without the component that two of them lack
    assert make(dataset.root, tmp_path / "two", "--samples-per-shard", "1", workers=2) == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert make(dataset.root, tmp_path / "images", "--components", "rgba") == 0
    assert set(found) - set(skipped(tmp_path / "images")) == {("env_001", 3), ("env_001", 8)}


@pytest.mark.parametrize(("modality", "reason"), [("json", "no json file"), ("rgba", "cut short")])
def test_on_defect_fail_stops_and_names_the_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], modality: str, reason: str
) -> None:
    dataset = make_dataset(tmp_path / "data", 3, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    path = dataset.file(modality, 2)
    content = path.read_bytes()
    if modality == "json":
        path.unlink()
    else:
        path.write_bytes(content[:-100])
    flags = ("--on-defect", "fail", "--components", "rgba")
    assert make(dataset.root, tmp_path / "set", *flags) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert reason in message
    assert "2" in message
    assert "--on-defect skip" in message
    path.write_bytes(content)
    assert make(dataset.root, tmp_path / "set", *flags) == 0
    assert len(ShardSet(tmp_path / "set", "train")) == 3


def test_an_unreadable_file_stops_the_run_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 2, modalities=("rgba", "json"))
    path = dataset.file("rgba", 1)
    path.unlink()
    path.mkdir()  # reading a folder fails whoever runs the test
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 1
    assert f"{path} cannot be read (Is a directory)" in capsys.readouterr().err


def test_an_empty_dataset_and_one_without_usable_frames_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert make(tmp_path / "empty", tmp_path / "set") == 2
    assert "holds no frames" in capsys.readouterr().err
    dataset = make_dataset(tmp_path / "data", 1, modalities=("json",))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 2
    message = capsys.readouterr().err
    assert "none of its 2 frames can be used" in message
    assert "2 no rgba file" in message
    assert "--components" in message


def test_folders_that_would_share_keys_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 1, environments=("env 01", "env_01"), modalities=("rgba", "json"))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 2
    assert "share the keys" in capsys.readouterr().err
