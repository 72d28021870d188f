"""The faults that users reported of the released data, at their real frame numbers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from engine.cli.command import CHECK_FAILED, OK
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import make
from tests.tools.tiny_dataset import FILE_JOINTS, TinyDataset, make_dataset
from tools import validate
from tools.dataset.layout import ReleaseRecording, find_recordings

pytestmark = pytest.mark.slow

LACKING = {
    "female_003_a_a": {"rgba": 2380, "json": 5000},
    "male_003_f_s": {"rgba": 303, "json": 4981},
    "male_006_f_s": {"rgba": 2, "json": 5},
    "male_008_f_s": {"rgba": 2, "json": 5},
    "male_010_f_s": {"rgba": 2, "json": 5},
    "male_011_f_s": {"rgba": 2, "json": 5},
}
"""Frames without an image and without labels in folders of equal counts; the last four subjects' are not on record."""

UNUSABLE = {
    "female_001_a_a": {2: "no rgba file", 3: "no json file", 4: "no json file"},
    "female_002_a_a": {1: "pts2d_fisheye lacks values", 2: "pts3d_fisheye lacks values"},
    **{subject: {frame: f"no {name} file" for name, frame in gaps.items()} for subject, gaps in LACKING.items()},
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "dataset"
    for subject, gaps in LACKING.items():
        frames = [gaps["rgba"] - 1, gaps["rgba"], gaps["rgba"] + 1, gaps["json"] - 1, gaps["json"], gaps["json"] + 1]
        dataset = small(root, subject, frames)
        for modality, frame in gaps.items():
            dataset.file(modality, frame).unlink()
    incomplete = small(root, "female_001_a_a", [1, 2, 3, 4])
    for modality, frame in (("rgba", 2), ("json", 3), ("json", 4)):
        incomplete.file(modality, frame).unlink()
    lacking = small(root, "female_002_a_a", [1, 2, 3, 4])
    for frame, key, rows in ((1, "pts2d_fisheye", 2), (2, "pts3d_fisheye", 3)):
        lacking.edit_json(frame, **{key: [[None] * len(FILE_JOINTS)] * rows})
    lacking.edit_json(3, char_height=None)
    lacking.file("rot", 4).unlink()
    return root


def small(root: Path, subject: str, frames: list[int]) -> TinyDataset:
    return make_dataset(root, frames, subjects=[("train", subject)], modalities=("rgba", "json"))


def by_position(recording: ReleaseRecording) -> list[tuple[str, str]]:
    """Frame numbers that a program gets which lists both folders and pairs the files by position."""
    listed = (sorted(path.name for path in (recording.path / name).iterdir()) for name in ("rgba", "json"))
    return [(image[-10:-4], labels[-11:-5]) for image, labels in zip(*listed, strict=True)]


def test_every_fault_of_the_release_is_found_named_and_counted(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate.main(["--dataset", str(release), "--report", str(tmp_path / "report.json")]) == CHECK_FAILED
    recordings = {one["subject"]: one for one in json.loads((tmp_path / "report.json").read_text())["recordings"]}
    assert recordings.keys() == UNUSABLE.keys()
    for subject, unusable in UNUSABLE.items():
        found = recordings[subject]
        assert found["misaligned"] == ([["rgba", "json"]] if subject in LACKING else [])
        assert {(reason, frame) for reason, fault in found["faults"].items() for frame in fault["frames"]} == {
            (reason, frame) for frame, reasons in unusable.items() for reason in reasons.split(", ")
        }
    assert recordings["female_003_a_a"]["counts"]["rgba"] == recordings["female_003_a_a"]["counts"]["json"] == 5
    assert [recordings["female_001_a_a"]["counts"][name] for name in ("rgba", "json", "rot")] == [3, 2, 4]
    assert recordings["female_002_a_a"]["notes"] == {
        "char_height is null": {"count": 1, "frames": [3]},
        "no rot file": {"count": 1, "frames": [4]},
    }
    said = capsys.readouterr().out
    assert "FAULT female_003_a_a env_001: no rgba file: 1 frames: 002380" in said
    assert "FAULT female_003_a_a env_001: no json file: 1 frames: 005000" in said
    assert "FAULT male_003_f_s env_001: no rgba file: 1 frames: 000303" in said
    assert "FAULT male_003_f_s env_001: no json file: 1 frames: 004981" in said


def test_sharding_leaves_exactly_them_out(release: Path, tmp_path: Path) -> None:
    recordings = {recording.subject: recording for recording in find_recordings(release)}
    pairs = by_position(recordings["female_003_a_a"])
    assert any(image != labels for image, labels in pairs), "paired by position, labels would be wrong"
    flags = ("--components", "rgba", "json", "--image-format", "source")
    assert make(release, tmp_path / "set", *flags) == OK
    skipped = Manifest.read(tmp_path / "set").splits["train"].skipped
    assert {(one.subject, one.frame): one.reason for one in skipped} == {
        (subject, frame): reason for subject, unusable in UNUSABLE.items() for frame, reason in unusable.items()
    }
    split = ShardSet(tmp_path / "set", "train")
    assert len(split) == 6 * len(LACKING) + 2 * 4 - len(skipped)
    for index, (subject, _, frame, _) in enumerate(split.meta(range(len(split))).tolist()):
        recording = recordings[split.manifest.subjects[subject]]
        assert split.member(index, "rgba.png").tobytes() == recording.file("rgba", frame).read_bytes()
        assert split.member(index, "json").tobytes() == recording.file("json", frame).read_bytes()


def test_what_pruning_leaves_pairs_by_position_too(release: Path, tmp_path: Path) -> None:
    validate.main(["--dataset", str(release), "--prune", str(tmp_path / "aside")])
    pairs = list(itertools.chain.from_iterable(by_position(recording) for recording in find_recordings(release)))
    assert len(pairs) == 4 * len(LACKING) + 1 + 2
    assert all(image == labels for image, labels in pairs)
    assert validate.main(["--dataset", str(release)]) == OK
