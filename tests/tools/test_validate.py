from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loaders.format.manifest import Manifest
from tests.tools.shard_runs import make
from tests.tools.tiny_dataset import TinyDataset, make_dataset, plant_faults
from tools import validate


def look(dataset: TinyDataset, *flags: str) -> tuple[int, dict[str, Any]]:
    report = dataset.root.parent / "report.json"
    status = validate.main(["--dataset", str(dataset.root), "--report", str(report), "--workers", "1", *flags])
    return status, json.loads(report.read_text())


def faults(report: dict[str, Any], recording: int = 0) -> dict[str, list[int]]:
    return {reason: found["frames"] for reason, found in report["recordings"][recording]["faults"].items()}


def test_a_sound_dataset_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 2)
    dataset.edit_json(1, char_height=None)
    dataset.file("rot", 2).unlink()
    for flags in ((), ("--deep",)):
        status, report = look(dataset, *flags)
        assert status == 0
        assert report["sound"] is True
        assert report["frames"] == 4
        assert report["recordings"][0]["notes"] == {
            "char_height is null": {"count": 1, "frames": [1]},
            "no rot file": {"count": 1, "frames": [2]},
        }
    said = capsys.readouterr().out
    assert "nothing is wrong" in said
    assert "the val split lacks 1 of its 1 subjects: male_008_a_a" in said


@pytest.mark.slow
def test_every_planted_fault_is_found_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 15)
    plant_faults(dataset)
    table = json.loads(dataset.file("json", 13).read_text())["pts2d_fisheye"]
    table[0][5] += 1.5
    dataset.edit_json(13, pts2d_fisheye=table)
    joints = json.loads(dataset.file("json", 14).read_text())["joints"]
    dataset.edit_json(14, joints=[{**joint, "name": joint["name"].replace("LeftFoot", "Tail")} for joint in joints])
    status, report = look(dataset)
    assert status == 1
    expected = {
        "no rgba file": [1],
        "no json file": [2],
        "no worldp file": [3],
        "rgba undecodable: the file is empty": [4],
        "rgba undecodable: cut short": [5],
        "rgba is 640x480, not 1280x800": [7],
        "worldp undecodable: not a PNG": [8],
        "pts2d_fisheye lacks values": [9],
        f"pts3d_fisheye has shape (3, 0), not (3, {len(joints)})": [10],
        "json file is empty": [11],
        "not JSON": [12],
        "2D labels more than 1 pixel off the camera model": [13],
        "no joint LeftFoot": [14],
    }
    assert faults(report) == expected
    assert faults(report, 1) == {}
    assert report["faults"]["no rgba file"] == 1
    assert report["faulty_frames"] == 13
    assert "FAULT female_001_a_a env_001: no rgba file: 1 frames: 000001" in capsys.readouterr().out
    status, report = look(dataset, "--deep")
    assert faults(report) == {**expected, "rgba undecodable: damaged": [6]}


def test_misalignment_at_equal_counts_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 6, subjects=[("train", "female_003_a_a")], modalities=("rgba", "json"))
    dataset.file("rgba", 2).unlink()
    dataset.file("json", 5).unlink()
    status, report = look(dataset)
    assert status == 1
    recording = report["recordings"][0]
    assert (recording["counts"]["rgba"], recording["counts"]["json"]) == (5, 5)
    assert recording["misaligned"] == [["rgba", "json"]]
    assert faults(report) == {"no rgba file": [2], "no json file": [5]}
    assert "misaligned at equal counts" in capsys.readouterr().out
    assert report["modalities"] == ["rgba", "json"], "modalities that were never extracted are no fault"


def test_misalignment_is_seen_among_modalities_of_other_counts(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 4, subjects=[("train", "female_003_a_a")])
    dataset.file("rgba", 2).unlink()
    dataset.file("json", 3).unlink()
    for frame in (1, 2):
        dataset.file("depth", frame).unlink()
    _, report = look(dataset)
    assert report["recordings"][0]["misaligned"] == [["rgba", "json"]]


def test_unreadable_and_empty_files_are_listed_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 5, subjects=[("train", "female_001_a_a")])
    for frame, modality in ((1, "rgba"), (2, "json")):
        dataset.file(modality, frame).unlink()
        dataset.file(modality, frame).mkdir()  # reading a folder fails whoever runs the test
    for frame, modality in ((3, "depth"), (4, "objectId"), (5, "rot")):
        dataset.file(modality, frame).write_bytes(b"")
    for flags in ((), ("--deep",)):
        status, report = look(dataset, *flags)
        assert status == 1
        assert faults(report) == {
            "rgba cannot be read: Is a directory": [1],
            "json cannot be read: Is a directory": [2],
            "depth undecodable: the file is empty": [3],
            "objectId undecodable: the file is empty": [4],
        }
        assert report["recordings"][0]["notes"] == {"rot file is empty": {"count": 1, "frames": [5]}}


def test_every_key_of_the_layout_is_missed(tmp_path: Path) -> None:
    keys = ("action", "char_height", "camera", "joints", "pts2d_fisheye", "pts3d_fisheye")
    dataset = make_dataset(tmp_path / "data", 6, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    for frame, key in enumerate(keys, start=1):
        path = dataset.file("json", frame)
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
    status, report = look(dataset)
    assert status == 1
    assert faults(report) == {f"no key {key}": [frame] for frame, key in enumerate(keys, start=1)}


def test_a_modality_that_only_some_recordings_lack_is_a_fault(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 2)
    for frame in (1, 2):
        dataset.file("depth", frame, 1).unlink()
    status, report = look(dataset)
    assert status == 1
    assert faults(report, 1) == {"no depth file": [1, 2]}


def test_recordings_in_the_wrong_place_are_found(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 1, modalities=("rgba", "json"))
    (tmp_path / "data" / "TrainSet" / "female_001_a_a").rename(tmp_path / "data" / "TestSet" / "female_001_a_a")
    status, report = look(dataset)
    assert status == 1
    wrong, _ = report["recordings"]
    assert wrong["problems"] == ["female_001_a_a belongs to the train split, not to test: run tools.arrange"]


@pytest.mark.slow
def test_sharding_leaves_out_what_validate_finds_unusable_and_keeps_labels_off_the_model(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 14, subjects=[("train", "female_001_a_a")])
    plant_faults(dataset)
    table = json.loads(dataset.file("json", 13).read_text())["pts2d_fisheye"]
    dataset.edit_json(13, pts2d_fisheye=[[u + 2 for u in table[0]], table[1]])
    _, report = look(dataset, "--deep")
    found = faults(report)
    assert found.pop("2D labels more than 1 pixel off the camera model") == [13]
    assert make(dataset.root, tmp_path / "set") == 0
    skipped = {frame.frame for frame in Manifest.read(tmp_path / "set").splits["train"].skipped}
    assert skipped == {frame for frames in found.values() for frame in frames}


@pytest.mark.slow
def test_prune_moves_faulty_frames_and_deletes_nothing(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 14, subjects=[("train", "female_001_a_a")])
    plant_faults(dataset)
    before = {str(p.relative_to(dataset.root)): p.read_bytes() for p in dataset.root.rglob("*") if p.is_file()}
    status, _ = look(dataset, "--deep", "--prune", str(tmp_path / "aside"))
    assert status == 1
    after = {
        str(p.relative_to(root)): p.read_bytes()
        for root in (dataset.root, tmp_path / "aside")
        for p in root.rglob("*")
        if p.is_file()
    }
    assert after == before
    assert len(list(dataset.root.rglob("*.png"))) == 2 * 4
    status, report = look(dataset, "--deep")
    assert status == 0
    assert report["frames"] == 2


@pytest.mark.slow
def test_two_workers_say_the_same(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 2)
    dataset.file("depth", 1).unlink()
    assert look(dataset) == look(dataset, "--workers", "2")


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate.main(["--dataset", str(tmp_path / "nowhere")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "is not a folder" in message
