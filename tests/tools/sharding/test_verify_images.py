from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import check, make, overwrite
from tests.tools.tiny_dataset import TinyDataset, make_dataset, world_positions


@pytest.fixture
def data(tmp_path: Path) -> TinyDataset:
    return make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], rot=False)


def make_images(data: TinyDataset, shards: Path, image_format: str) -> ShardSet:
    assert make(data.root, shards, "--components", "rgba", "--image-format", image_format) == 0
    return ShardSet(shards, "train")


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_an_image_of_another_frame_is_found(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], image_format: str
) -> None:
    member = make_images(data, tmp_path / "set", image_format).manifest.image_member
    one, other = data.file("rgba", 1), data.file("rgba", 2)
    images = one.read_bytes(), other.read_bytes()
    one.write_bytes(images[1])
    other.write_bytes(images[0])
    assert check(tmp_path / "set", "--root", str(data.root)) == 0, "without --deep no image is looked at"
    capsys.readouterr()
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(": ")[2] for line in lines[:-1]) == [
        f"female_001_a_a-env_001-00000{frame}: its {member} is not the dataset's" for frame in (1, 2)
    ]


def test_other_world_positions_are_found(data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(data.root, tmp_path / "set", "--components", "worldp", "--image-size", "128") == 0
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 0
    assert cv2.imwrite(str(data.file("worldp", 2)), world_positions() + np.uint16(1))
    capsys.readouterr()
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "000002: its worldp.png is not the dataset's" in lines[0]


def test_an_image_that_the_dataset_lost_is_named(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(data, tmp_path / "set", "jpeg")
    data.file("rgba", 1).write_bytes(data.file("rgba", 1).read_bytes()[:-100])
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 1
    assert "000001: the dataset's frame has rgba undecodable: cut short" in capsys.readouterr().out


def test_other_bytes_of_the_same_image_pass(data: TinyDataset, tmp_path: Path) -> None:
    stored = make_images(data, tmp_path / "set", "jpeg").member(0, "rgba.jpg").tobytes()
    image = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    again = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes()
    assert len(again) < len(stored)
    overwrite(tmp_path / "set", "rgba.jpg", again.ljust(len(stored), b"\0"))
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 0


@pytest.mark.parametrize(("distance", "status"), [(1, 0), (2, 1)])
def test_lossless_images_may_be_off_by_rounding_alone(
    data: TinyDataset, tmp_path: Path, distance: int, status: int
) -> None:
    value = int(make_images(data, tmp_path / "set", "raw").member(0, "rgba.npy")[1000])
    overwrite(tmp_path / "set", "rgba.npy", bytes([value + distance]), at=1000)
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == status
