from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import ROOT, check, make
from tests.tools.tiny_dataset import TinyDataset
from tools import shard


@pytest.mark.parametrize(
    ("flags", "subjects"),
    [
        (("--split", "test"), {"test": "male_001_a_a"}),
        (("--split", "test", "train"), {"train": "female_001_a_a", "test": "male_001_a_a"}),
        (("--subjects", "female_001_a_a"), {"train": "female_001_a_a"}),
        (("--split", "test", "val", "--subjects", "male_001_a_a"), {"test": "male_001_a_a"}),
    ],
)
def test_splits_and_subjects_narrow_the_set(
    dataset: TinyDataset, tmp_path: Path, flags: tuple[str, ...], subjects: dict[str, str]
) -> None:
    assert make(dataset.root, tmp_path / "set", "--components", "json", *flags) == 0
    manifest = Manifest.read(tmp_path / "set")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"manifest.json", *subjects}
    assert list(manifest.splits) == list(subjects)
    assert sorted(manifest.subjects) == sorted(subjects.values())
    for name, subject in subjects.items():
        split = ShardSet(tmp_path / "set", name)
        assert sorted(split.key(index) for index in range(len(split))) == [
            f"{subject}-{environment}-{frame:06d}" for environment in ("env_001", "env_02") for frame in range(1, 6)
        ]
    assert check(tmp_path / "set", "--root", str(dataset.root)) == 0, "what was not asked for is not missed"


def test_frames_of_a_recording_stay_together_if_that_is_asked_for(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same samples as in random order, recordings one after another, in an order of the seed's."""
    orders = set()
    for seed in map(str, range(6)):
        for order in ("recording", "random"):
            output = tmp_path / f"{order}-{seed}"
            assert make(dataset.root, output, "--components", "json", "--order", order, "--seed", seed) == 0
        keys = {
            order: [split.key(index) for index in range(len(split))]
            for order in ("recording", "random")
            for split in [ShardSet(tmp_path / f"{order}-{seed}", "train")]
        }
        assert sorted(keys["recording"]) == sorted(keys["random"])
        recordings = [key.rpartition("-")[0] for key in keys["recording"][::5]]
        assert keys["recording"] == [f"{name}-{frame:06d}" for name in recordings for frame in range(1, 6)]
        assert keys["random"] != sorted(keys["random"])
        orders.add(tuple(recordings))
    assert len(orders) == 2
    assert check(tmp_path / "recording-0", "--root", str(dataset.root)) == 0
    assert Manifest.read(tmp_path / "recording-0").options["order"] == "recording"
    capsys.readouterr()
    assert make(dataset.root, tmp_path / "random-0", "--components", "json", "--order", "recording") == 2
    assert "holds a finished shard set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--image-size", "16"), "--image-size is 16: give 32 to 4096"),
        (("--quality", "0"), "--quality is 0: give 1 to 100"),
        (("--image-format", "gif"), "gif"),
        (("--subjects", "nobody"), "no subject nobody"),
    ],
)
def test_bad_options_are_one_line(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert make(dataset.root, tmp_path / "set", *flags) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_help_gives_every_number_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        shard.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for words in ("--image-size", "(pixels)", "--samples-per-shard", "(samples)", "(processes)"):
        assert words in said


def test_the_tools_start_without_the_training_stack() -> None:
    names = "tools.shard, tools.sharding.writer"
    script = f"import sys, {names}; print([m for m in ('torch', 'nvidia.dali', 'distributed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
