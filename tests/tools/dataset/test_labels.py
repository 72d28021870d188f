"""Values in a frame's JSON that parsers choke on or let pass, and what becomes of the frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation.examples import _vertical
from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import check, make, skipped
from tests.tools.tiny_dataset import FILE_JOINTS, TinyDataset, make_dataset
from tools import validate
from tools.dataset.layout import read_labels
from tools.sources.source import FrameError

NECK = FILE_JOINTS.index("Neck")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    one = make_dataset(tmp_path_factory.mktemp("one"), 1, subjects=[("train", "female_001_a_a")], modalities=("json",))
    return one.file("json", 1).read_text()


def with_value(text: str, key: str, value: str) -> str:
    """Put a literal in place of the first coordinate of Neck."""
    frame = json.loads(text)
    frame[key][0][NECK] = "HERE"
    return json.dumps(frame).replace('"HERE"', value)


@pytest.mark.parametrize("key", ["pts2d_fisheye", "pts3d_fisheye"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("9" * 400, "lacks values"),  # no float holds it
        ("9" * 5000, "lacks values"),  # Python converts no longer ones
        ("1e300", "holds values beyond 32 bits"),
        ("-1e38", "holds values beyond 32 bits"),  # infinite once it is scaled to a larger image
        ("NaN", "lacks values"),
        ("-Infinity", "lacks values"),
        ("true", "is not a table of numbers"),
        ('"12"', "is not a table of numbers"),
        ("[1.0]", "is not a table of numbers"),
        ("{}", "is not a table of numbers"),
    ],
)
def test_what_is_no_number_that_can_be_stored_is_named(text: str, key: str, value: str, reason: str) -> None:
    with pytest.raises(FrameError, match=f"^{key} {reason}$"):
        read_labels(with_value(text, key, value).encode())


def changed(**keys: object) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **keys})


def named(name: object) -> Callable[[str], str]:
    """Rename a joint that training does not use."""
    return lambda text: text.replace(json.dumps(f"mixamorig:{FILE_JOINTS[0]}"), json.dumps(name))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "[" * 100_000, "not JSON: "),
        (lambda text: text.replace("171.5", "[" * 100_000 + "]" * 100_000), "not JSON: "),
        (lambda text: f"[{text}]", "not a JSON object"),
        (lambda text: text.replace('"action"', '"action": "Boxing", "action"'), "a key is there twice"),
        (changed(action=None), "action is no string"),
        (changed(action=7), "action is no string"),
        (changed(action="\ud800"), "action is no string that can be printed"),
        (changed(action="two\nlines"), "action is no string that can be printed"),
        (named(5), "the name of a joint is no string"),
        (named(None), "the name of a joint is no string"),
        (named("mixamorig:Neck"), "joint Neck is there 2 times"),
        (changed(pts2d_fisheye=[1.0] * len(FILE_JOINTS)), "pts2d_fisheye is not a table of numbers"),
        (changed(pts3d_fisheye=[[[1.0]]]), "pts3d_fisheye is not a table of numbers"),
        (changed(pts3d_fisheye=[[1.0], [1.0, 2.0], []]), "pts3d_fisheye is not a table of numbers"),
        (changed(pts3d_fisheye=None), "pts3d_fisheye is not a table of numbers"),
        (changed(joints=None), "joints is not a list of objects"),
        (changed(joints={"Neck": 1}), "joints is not a list of objects"),
    ],
)
def test_json_of_another_kind_is_named(text: str, change: Callable[[str], str], reason: str) -> None:
    with pytest.raises(FrameError, match=f"^{reason}"):
        read_labels(change(text).encode())


def test_values_that_training_does_not_use_may_be_anything(text: str) -> None:
    labels = read_labels(text.encode())
    other = read_labels(text.replace("171.5", "9" * 5000).encode())
    assert (other.joints_2d == labels.joints_2d).all()
    assert (other.joints_3d == labels.joints_3d).all()


@pytest.mark.parametrize("camera", ["9" * 400, "9" * 5000, "NaN", "null", "[]", '"camera"'])
def test_a_camera_that_means_nothing_leaves_the_view_to_the_pose(tmp_path: Path, camera: str) -> None:
    """Examples of an evaluation stand upright by the camera that the stored JSON tells."""
    dataset = make_dataset(
        tmp_path / "data", 1, subjects=[("train", "female_001_a_a")], modalities=("json",), rot=False
    )
    path = dataset.file("json", 1)
    path.write_text(path.read_text().replace("[0.0, 170.0, 10.0]", f"[0.0, {camera}, 10.0]"))
    assert make(dataset.root, tmp_path / "set", "--components", "json") == 0
    pose = np.arange(48.0).reshape(16, 3)
    up = _vertical(ShardSet(tmp_path / "set", "train"), 0, pose)
    np.testing.assert_allclose(up, np.full(3, -(3**-0.5)))


def report(dataset: TinyDataset, path: Path) -> dict[str, list[int]]:
    validate.main(["--dataset", str(dataset.root), "--report", str(path), "--workers", "1"])
    faults = json.loads(path.read_text())["recordings"][0]["faults"]
    return {reason: found["frames"] for reason, found in faults.items()}


def test_validate_and_sharding_go_on_and_name_the_frames(tmp_path: Path) -> None:
    subjects = [("train", "female_001_a_a")]
    dataset = make_dataset(tmp_path / "data", 6, subjects=subjects, modalities=("rgba", "json"))
    for frame, (key, value) in enumerate(
        [("pts2d_fisheye", "9" * 5000), ("pts3d_fisheye", "1e300"), ("pts2d_fisheye", "1e300")], start=1
    ):
        path = dataset.file("json", frame)
        path.write_text(with_value(path.read_text(), key, value))
    dataset.edit_json(4, action=None)
    dataset.file("json", 5).unlink()
    dataset.file("json", 5).symlink_to("nowhere")
    expected = {
        "pts2d_fisheye lacks values": [1],
        "pts3d_fisheye holds values beyond 32 bits": [2],
        "pts2d_fisheye holds values beyond 32 bits": [3],
        "action is no string that can be printed": [4],
        "json is a link to nothing": [5],
    }
    assert report(dataset, tmp_path / "report.json") == expected
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "--image-size", "4096") == 0
    assert skipped(tmp_path / "set") == {
        ("env_001", frame): reason for reason, frames in expected.items() for frame in frames
    }
    assert len(ShardSet(tmp_path / "set", "train")) == 1


def test_a_joint_where_no_body_reaches_is_a_fault_that_sharding_keeps_and_verify_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = [("train", "female_001_a_a")]
    dataset = make_dataset(tmp_path / "data", 2, subjects=subjects, modalities=("rgba", "json"))
    points = json.loads(dataset.file("json", 2).read_text())["pts3d_fisheye"]
    # as if millimetres were taken for centimetres: the camera model projects them to the same pixels
    dataset.edit_json(2, pts3d_fisheye=[[10 * value for value in row] for row in points])
    assert report(dataset, tmp_path / "report.json") == {"a joint more than 3 m from the camera": [2]}
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 0
    assert "1 frames with a joint more than 3 m from the camera" in capsys.readouterr().err
    assert len(ShardSet(tmp_path / "set", "train")) == 2
    assert check(tmp_path / "set", "--root", str(dataset.root)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "female_001_a_a-env_001-000002: a joint more than 3 m from the camera" in lines[0]
    assert "1 findings" in lines[-1]
