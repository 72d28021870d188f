from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from loaders import ShardSet
from tests.tools.shard_runs import check, make, overwrite
from tests.tools.tiny_dataset import TinyDataset, make_dataset

FLAGS = ("--components", "rgba", "json", "--samples-per-shard", "2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), 3, modalities=("rgba", "json"), rot=False)


@pytest.fixture(scope="module")
def made(dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shards") / "set"
    assert make(dataset.root, output, *FLAGS) == 0
    return output


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "set"))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_a_fresh_set_passes(dataset: TinyDataset, tmp_path: Path, image_format: str) -> None:
    assert make(dataset.root, tmp_path / "set", *FLAGS, "--image-format", image_format, "--split", "train") == 0
    assert check(tmp_path / "set", "--deep", "--root", str(dataset.root)) == 0


@pytest.mark.slow
def test_two_workers_agree(dataset: TinyDataset, made: Path) -> None:
    assert check(made, "--deep", "--root", str(dataset.root), "--workers", "2") == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "train-000001.tar").unlink(), "train-000001.tar is missing"),
        (lambda folder: (folder / "train-000001.idx").unlink(), "train-000001.idx is missing"),
        (lambda folder: (folder / "train-000000.tar").write_bytes(b"short"), "has 5 bytes"),
        (lambda folder: (folder / "train-000009.tar").write_bytes(b""), "train-000009.tar is not in the manifest"),
        (lambda folder: (folder / "a.partial").write_bytes(b""), "a.partial is not in the manifest"),
    ],
)
def test_files_that_do_not_agree_are_named(
    shards: Path, capsys: pytest.CaptureFixture[str], damage: object, said: str
) -> None:
    assert callable(damage)
    damage(shards / "train")
    assert check(shards) == 1
    lines = capsys.readouterr().out.splitlines()
    assert said in lines[0]
    assert "1 findings" in lines[-1]


def test_a_flipped_bit_is_found(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shards / "train" / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    assert check(shards) == 1
    assert "train-000000.tar was altered" in capsys.readouterr().out


def test_an_index_that_points_elsewhere_is_found(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shards / "train" / "train-000000.idx"
    path.write_text(path.read_text().replace(" 512 ", " 513 ", 1))
    assert check(shards) == 1
    assert "points elsewhere than the members of train-000000.tar can lie" in capsys.readouterr().out


def test_a_damaged_image_is_found_only_by_decoding(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overwrite(shards, "rgba.jpg", bytes(64))
    assert check(shards) == 0
    capsys.readouterr()
    assert check(shards, "--deep") == 1
    assert "rgba.jpg cannot be decoded" in capsys.readouterr().out


def test_labels_of_another_frame_are_found(
    dataset: TinyDataset, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = np.array([7], "<i4").tobytes()
    overwrite(shards, "meta.npy", other, at=128 + 8)
    assert check(shards) == 1
    assert "its labels belong to female_001_a_a-env_001-000007" in capsys.readouterr().out
    assert check(shards, "--root", str(dataset.root)) == 1
    assert "the dataset's frame has no json file" in capsys.readouterr().out


def test_what_no_sample_tells_alone_is_found(tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_dataset(tmp_path / "other", 3, environments=("env_009",), modalities=("rgba", "json"), rot=False)
    assert check(shards, "--root", str(other.root)) == 1
    assert "the dataset has no such recording" in capsys.readouterr().out
    own = int(ShardSet(shards, "train").meta([0])[0, 2])
    overwrite(shards, "meta.npy", np.array([own % 3 + 1], "<i4").tobytes(), at=128 + 8)
    assert check(shards) == 1
    assert f"{own % 3 + 1:06d} is stored 2 times" in capsys.readouterr().out


def test_labels_that_point_nowhere_are_found(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overwrite(shards, "meta.npy", np.array([99], "<i4").tobytes(), at=128)
    assert check(shards) == 1
    assert "its labels cannot be read (tuple index out of range)" in capsys.readouterr().out


def test_values_are_compared_with_the_dataset(
    dataset: TinyDataset, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    u = ShardSet(shards, "train").pose([0])[0, 0, 0]
    overwrite(shards, "pose.npy", np.array([u + 0.25], "<f4").tobytes(), at=128)
    assert check(shards) == 0
    capsys.readouterr()
    assert check(shards, "--root", str(dataset.root)) == 1
    assert "its pose is not the dataset's" in capsys.readouterr().out
    overwrite(shards, "json", b" ")
    assert check(shards, "--root", str(dataset.root)) == 1
    assert "its json is not the dataset's" in capsys.readouterr().out
    overwrite(shards, "pose.npy", np.array([np.nan], "<f4").tobytes(), at=128)
    assert check(shards) == 1
    assert "not finite" in capsys.readouterr().out


@pytest.mark.parametrize("joint", [0, 15])
def test_another_visibility_than_the_poses_is_found(
    shards: Path, capsys: pytest.CaptureFixture[str], joint: int
) -> None:
    assert check(shards) == 0
    overwrite(shards, "visible.npy", b"\0", at=128 + joint)
    capsys.readouterr()
    assert check(shards) == 1
    assert "its visibility is not that of its pose" in capsys.readouterr().out


def test_labels_where_no_body_reaches_are_found(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joint = 128 + 4 * 5 * 3  # x, y, z follow u and v
    overwrite(shards, "pose.npy", np.array([0, 0, 2.9], "<f4").tobytes(), at=joint + 8)
    assert check(shards) == 0
    for far in (3.1, 1e30):
        overwrite(shards, "pose.npy", np.array([0, 0, far], "<f4").tobytes(), at=joint + 8)
        capsys.readouterr()
        assert check(shards) == 1
        assert "a joint more than 3 m from the camera" in capsys.readouterr().out


def test_a_frame_that_was_silently_dropped_is_found(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = make_dataset(tmp_path / "larger", 4, modalities=("rgba", "json"), rot=False)
    assert check(shards, "--root", str(larger.root)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines[:-1]] == [
        f"{subject} env_001 000004 is in the dataset, but neither stored nor listed as skipped"
        for subject in ("female_001_a_a", "male_001_a_a")
    ]


def test_what_is_no_shard_set_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "no finished shard set" in message
