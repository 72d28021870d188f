"""The adapters in examples/: their datasets, tiny and written here, become shards and train."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from loaders import AugmentConfig, DataConfig, ShardSet, build_loader
from loaders.codecs import encode
from loaders.format.manifest import Manifest
from models.ocam import OcamCamera
from models.skeleton import MO2CAP2
from tests.loaders.blobs import check_blobs
from tests.shard_factory import paint_blobs, random_pose
from tools.shard import main as shard
from tools.validate import main as validate
from tools.verify import main as verify

CAMERA = OcamCamera(320, 256, 163.0, 121.0, (-95.0, 0.0, 0.0017, -1.5e-6, 1.5e-8), (0.995, 0.01, -0.012), 0.0)
CALIBRATION = {
    "polynomialC2W": CAMERA.polynomial,
    "size": [CAMERA.width, CAMERA.height],
    "image_center": [CAMERA.cx, CAMERA.cy],
    "affine": CAMERA.affine,
}
SCENEEGO, MO2CAP2_SOURCE = "examples/sceneego.py:SceneEgo", "examples/mo2cap2.py:Mo2Cap2"
SAMPLES = 6


def samples(seed: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Images with a blob on each joint, and their labels."""
    random = np.random.default_rng(seed)
    poses = [random_pose(CAMERA, random, len(MO2CAP2)) for _ in range(SAMPLES)]
    return [paint_blobs(CAMERA, joints_2d) for joints_2d, _ in poses], *(
        list(part) for part in zip(*poses, strict=True)
    )


def write_sceneego(root: Path, *, ego: int = 100, ext: int = 298) -> Path:
    root.mkdir()
    (root / "fisheye.calibration.json").write_text(json.dumps(CALIBRATION))
    for seed, (split, name) in enumerate((("train", "diogo1"), ("train", "jian2"), ("val", "diogo2"))):
        folder = root / split / name
        (folder / "imgs").mkdir(parents=True)
        images, _, joints_3d = samples(seed)
        for number, image in enumerate(images):
            (folder / "imgs" / f"img_{ego + number:06d}.jpg").write_bytes(encode(image, ".jpg", quality=98))
        entries = [
            {"ext_id": ext + number, "calib_board_pose": np.eye(4), "ego_pose_gt": pose}
            for number, pose in enumerate(joints_3d)
        ]
        (folder / "annotation.pkl").write_bytes(pickle.dumps(entries, protocol=3 + seed))
        (folder / "syn.json").write_text(json.dumps({"ego": ego, "ext": ext}))
    return root


def write_mo2cap2(root: Path) -> Path:
    root.mkdir()
    (root / "fisheye.calibration.json").write_text(json.dumps(CALIBRATION))
    for seed, (split, number) in enumerate((("train", 1), ("train", 2), ("val", 3))):
        (root / split).mkdir(exist_ok=True)
        images, joints_2d, joints_3d = samples(seed)
        with h5py.File(root / split / f"mo2cap2_chunk_{number:04}.hdf5", "w") as chunk:
            chunk["Images"] = np.stack(images).transpose(0, 3, 1, 2)
            chunk["Annot2D"] = np.stack(joints_2d).astype(np.float32)
            chunk["Annot3D"] = 1000 * np.stack(joints_3d)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("write", "source"), [(write_sceneego, SCENEEGO), (write_mo2cap2, MO2CAP2_SOURCE)])
def test_its_frames_become_shards_in_which_blobs_stay_under_their_joints(tmp_path, capsys, write, source) -> None:
    root, output = write(tmp_path / "data"), tmp_path / "shards"
    given = ["--dataset", str(root), "--source", source]
    assert validate([*given, "--deep"]) == 0
    assert "18 frames in 3 recordings, 0 misaligned: nothing is wrong" in capsys.readouterr().out
    size = ["--image-size", "192", "--workers", "2", "--samples-per-shard", "5", "--image-format", "png"]
    assert shard([*given, "--output", str(output), *size]) == 0
    assert verify(["--shards", str(output), *given, "--deep"]) == 0
    manifest = Manifest.read(output)
    assert (manifest.skeleton, manifest.preprocessing.frame) == (MO2CAP2, CAMERA)
    assert manifest.options["components"] == ["rgba"]
    for backend in ("dali", "torch"):
        augment = AugmentConfig(rotation=180, horizontal_flip=0.5)
        config = DataConfig(shards=output, batch_size=12, backend=backend, augment=augment)  # type: ignore[arg-type]
        loader = build_loader(config, "train", training=True)
        assert check_blobs(list(loader)) > 10
        loader.close()
    # the poses, back in the order of the files
    split = ShardSet(output, "val")
    frames = np.argsort(split.meta(range(SAMPLES))[:, 2])
    _, _, joints_3d = samples(2)
    np.testing.assert_allclose(split.pose(frames)[:, :, 2:], joints_3d, atol=1e-6)


def test_an_image_without_a_pose_is_left_out_and_named(tmp_path) -> None:
    root = write_sceneego(tmp_path / "data")
    folder = root / "val" / "diogo2"
    (folder / "imgs" / "img_000200.jpg").write_bytes((folder / "imgs" / "img_000100.jpg").read_bytes())
    (folder / "imgs" / "img_000101.jpg").write_bytes(b"\xff\xd8 and nothing more")
    output = tmp_path / "shards"
    assert shard(["--dataset", str(root), "--source", SCENEEGO, "--output", str(output), "--image-size", "64"]) == 0
    split = Manifest.read(output).splits["val"]
    assert [(one.frame, one.reason) for one in split.skipped] == [
        (101, "rgba undecodable: damaged"),
        (200, "no pose in annotation.pkl"),
    ]
    assert split.samples == SAMPLES - 1


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_executed(tmp_path, capsys) -> None:
    root, mark = write_sceneego(tmp_path / "data"), tmp_path / "executed"
    (root / "train" / "jian2" / "annotation.pkl").write_bytes(pickle.dumps([Evil(mark)]))
    assert (
        shard(["--dataset", str(root), "--source", SCENEEGO, "--output", str(tmp_path / "out"), "--workers", "1"]) == 2
    )
    said = capsys.readouterr().err
    assert (
        "annotation.pkl would call pathlib.Path.touch" in said or "annotation.pkl would call builtins.getattr" in said
    )
    assert "sceneego.py:SceneEgo, " in said
    assert len(said.strip().splitlines()) == 1
    assert not mark.exists()
