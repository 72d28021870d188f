"""Names of files and folders: hidden ones, frames twice, and names that no sample can bear."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cli.command import CHECK_FAILED, OK
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import check, make, skipped, tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset
from tools import validate
from tools.dataset.layout import SET_FOLDERS

COMPONENTS = ("--components", "rgba", "json")
COMPANION = b"\0\5\x16\7\0\2\0\0Mac OS X        ".ljust(4096, b"\0")


@pytest.fixture
def data(tmp_path: Path) -> TinyDataset:
    subjects = [("train", "female_001_a_a")]
    return make_dataset(tmp_path / "data", 3, subjects=subjects, modalities=("rgba", "json"))


def look(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    return validate.main(["--dataset", str(root), "--workers", "1"]), capsys.readouterr().out


def test_hidden_and_half_written_files_are_no_data(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(data.root, tmp_path / "plain", *COMPONENTS) == OK
    for path in [path for path in data.root.rglob("*") if path.is_file()]:
        for name in (f"._{path.name}", f".{path.name}", f"{path.name}.1a2b3c4d.partial", ".nfs000000000012.png"):
            path.with_name(name).write_bytes(COMPANION)
    train = data.root / SET_FOLDERS["train"]
    for folder in (data.recordings[0].path / "depth", train, train / "female_001_a_a"):
        folder.mkdir(exist_ok=True)
        for name in (".DS_Store", "._env_001", "Thumbs.db"):
            (folder / name).write_bytes(COMPANION)
    for unfinished in (".female_002_a_a", "female_002_a_a.partial"):
        (train / unfinished / "env_001" / "cam_down" / "rgba").mkdir(parents=True)
        (train / unfinished / "env_001" / "cam_down" / "rgba" / "a.rgba.000001.png").write_bytes(COMPANION)
    assert look(data.root, capsys)[0] == OK
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    assert tree(tmp_path / "set") == tree(tmp_path / "plain")
    (tmp_path / "set" / "train" / "._train-000000.tar").write_bytes(COMPANION)
    assert check(tmp_path / "set", "--root", str(data.root)) == OK


def test_a_companion_in_the_output_folder_is_no_shard_set_of_somebody_else(data: TinyDataset, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".DS_Store").write_bytes(COMPANION)
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK


def test_a_frame_twice_is_noted_where_the_bytes_are_the_same_and_skipped_alone_where_not(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for frame in (1, 2):
        path = data.file("json", frame)
        path.with_name(f"female_001_a_a_{frame:04d}.json").write_bytes(path.read_bytes() + b" " * (frame - 1))
    data.file("rgba", 1).with_name("female_001_a_a.rgba.1.png").symlink_to(data.file("rgba", 1))
    data.file("json", 3).rename(data.file("json", 3).with_name("female_001_a_a_0003.json"))
    status, said = look(data.root, capsys)
    assert status == CHECK_FAILED
    assert "FAULT female_001_a_a env_001: 2 json files that differ: 1 frames: 000002" in said
    assert "note  female_001_a_a env_001: 2 json files of the same content: 1 frames" in said
    assert "note  female_001_a_a env_001: 2 rgba files of the same content: 1 frames" in said
    assert "3 frames in 1 recordings, 0 misaligned: 1 of them faulty, 0 other problems" in said
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    assert "1 frames with a file of the same content under two names" in capsys.readouterr().err
    names = "female_001_a_a_000002.json, female_001_a_a_0002.json"
    assert skipped(tmp_path / "set") == {("env_001", 2): f"2 json files that differ: {names}"}
    assert check(tmp_path / "set", "--root", str(data.root), "--deep") == OK


def test_files_twice_of_a_modality_that_is_not_stored_keep_no_frame_out(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", 1, subjects=[("train", "female_001_a_a")])
    data.file("depth", 1).with_name("female_001_a_a.depth.1.png").write_bytes(b"another")
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    assert skipped(tmp_path / "set") == {}


def test_a_frame_number_beyond_32_bits_is_skipped(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {1: 2**31 - 1, 2: 2**31, 3: 20240131235959}
    for frame, number in numbers.items():
        for modality in ("rgba", "json"):
            data.file(modality, frame).rename(data.file(modality, number))
    status, said = look(data.root, capsys)
    assert status == CHECK_FAILED
    assert "frame number beyond 32 bits: 2 frames: 2147483648, 20240131235959" in said
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    assert skipped(tmp_path / "set") == {("env_001", numbers[at]): "frame number beyond 32 bits" for at in (2, 3)}
    assert ShardSet(tmp_path / "set", "train").meta([0])[0, 2] == 2**31 - 1
    assert check(tmp_path / "set", "--root", str(data.root)) == OK


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((os.fsdecode(b"Zo\xeb"), "Zo\\xeb"), "the name of its folder cannot be printed"),
        (("two\nlines", "two\\nlines"), "the name of its folder cannot be printed"),
        (["s" * 73] * 2, "the names of its folders are too long for a tar: 1 characters too many"),
        (["s" * 255] * 2, "the names of its folders are too long for a tar: 183 characters too many"),
    ],
)
def test_a_subject_whose_name_no_sample_can_bear_is_skipped(
    data: TinyDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str], names: tuple[str, str], reason: str
) -> None:
    name, shown = names
    odd = make_dataset(tmp_path / "odd", 1, subjects=[("train", "female_002_a_a")], modalities=("rgba", "json"))
    (odd.root / "TrainSet" / "female_002_a_a").rename(data.root / "TrainSet" / name)
    assert validate.main(["--dataset", str(data.root), "--report", str(tmp_path / "report.json")]) == CHECK_FAILED
    assert f"FAULT {shown} env_001: {reason}" in capfd.readouterr().out
    assert shown in {one["subject"] for one in json.loads((tmp_path / "report.json").read_bytes())["recordings"]}
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    manifest = Manifest.read(tmp_path / "set")
    assert [(one.subject, one.reason) for one in manifest.splits["train"].skipped] == [(shown, reason)]
    assert manifest.splits["train"].samples == 3
    assert check(tmp_path / "set", "--root", str(data.root)) == OK


def test_the_longest_name_that_a_tar_holds_is_taken(data: TinyDataset, tmp_path: Path) -> None:
    subject = data.root / "TrainSet" / "female_001_a_a"
    subject.rename(subject.with_name("s" * 72))
    assert make(data.root, tmp_path / "set", *COMPONENTS) == OK
    assert len(ShardSet(tmp_path / "set", "train", checksums=True)) == 3
    assert check(tmp_path / "set", "--root", str(data.root)) == OK
