from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders import DataConfig, build_loader
from loaders.format.manifest import FILE_NAME, Manifest
from loaders.format.shard_set import ShardSet
from models.camera import IN_IMAGE, IN_LENS, UNSEEN, Crop
from models.xr_egopose import CAMERA, JOINTS
from tests.shard_factory import write_shard
from tests.tools.shard_runs import check, make, numpy_of, tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset, world_positions
from tools.dataset.layout import read_labels


def test_a_sample_holds_the_members_in_order_with_their_types_and_values(dataset: TinyDataset, shards: Path) -> None:
    manifest = Manifest.read(shards)
    seen = set()
    for tar_path in sorted(shards.glob("*/*.tar")):
        with tarfile.open(tar_path) as tar:
            members = tar.getmembers()
            content = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        for at in range(0, len(members), 6):
            group = [member.name.partition(".") for member in members[at : at + 6]]
            key = group[0][0]
            assert [(k, extension) for k, _, extension in group] == [
                (key, name) for name in ("rgba.jpg", "json", "worldp.png", "pose.npy", "meta.npy", "visible.npy")
            ]
            meta, pose = numpy_of(content[f"{key}.meta.npy"]), numpy_of(content[f"{key}.pose.npy"])
            assert (meta.dtype, meta.shape, pose.dtype, pose.shape) == (np.int32, (4,), np.float32, (16, 5))
            subject, environment = manifest.subjects[meta[0]], manifest.environments[meta[1]]
            assert key == f"{subject}-{environment.replace(' ', '_')}-{meta[2]:06d}"
            source = next(r for r in dataset.recordings if (r.subject, r.name) == (subject, environment))
            text = source.file("json", int(meta[2])).read_bytes()
            assert content[f"{key}.json"] == text
            labels = read_labels(text)
            assert manifest.actions[meta[3]] == labels.action
            np.testing.assert_allclose(pose[:, 2:], labels.joints_3d, rtol=1e-6)
            u, v = labels.joints_2d.T
            np.testing.assert_allclose(pose[:, 0], (u - 240 + 0.5) * 368 / 800 - 0.5, atol=1e-4)
            np.testing.assert_allclose(pose[:, 1], (v + 0.5) * 368 / 800 - 0.5, atol=1e-4)
            visible = numpy_of(content[f"{key}.visible.npy"])
            assert (visible.dtype, visible.shape) == (np.uint8, (16,))
            # in the cropped image or beside it; the camera sees all of these joints
            inside = ((pose[:, :2] >= -0.5) & (pose[:, :2] <= 367.5)).all(1)
            np.testing.assert_array_equal(visible, np.where(inside, IN_IMAGE, IN_LENS))
            assert source.split == tar_path.parent.name
            seen.add(key)
        assert {(m.uid, m.gid, m.mtime, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
    assert len(seen) == 20


def test_the_manifest_says_what_was_made(shards: Path) -> None:
    manifest = Manifest.read(shards)
    assert manifest.camera == CAMERA.cropped("square", 368)
    assert manifest.preprocessing.format == "jpeg"
    assert manifest.environments == ("env 02", "env_001")
    for name, split in manifest.splits.items():
        assert [entry.samples for entry in split.shards] == [4, 4, 2]
        for entry in split.shards:
            content = (shards / name / entry.name).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.bytes, entry.sha256)
    expected = {
        "manifest.json",
        *(f"{s}/{s}-{i:06d}.{e}" for s in ("train", "test") for i in range(3) for e in ("tar", "idx")),
    }
    assert set(tree(shards)) == expected


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_a_painted_dot_lies_under_its_joint(tmp_path: Path, image_format: str) -> None:
    dataset = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "--image-format", image_format) == 0
    split = ShardSet(tmp_path / "set", "train")
    member = split.manifest.image_member
    assert member is not None
    for index in range(2):
        content = split.member(index, member).tobytes()
        image = numpy_of(content) if image_format == "raw" else cv2.imdecode(np.frombuffer(content, np.uint8), 1)
        assert image.shape == ((800, 1280, 3) if image_format == "source" else (368, 368, 3))
        pose, found = split.pose([index])[0], 0
        for joint, (u, v) in enumerate(pose[:, :2]):
            apart = np.linalg.norm(np.delete(pose[:, :2], joint, axis=0) - [u, v], axis=1).min()
            if apart > 14:
                x, y, r = round(float(u)), round(float(v)), 6
                window = image[y - r : y + r + 1, x - r : x + r + 1].mean(axis=2) - 60
                weight = np.clip(window, 0, None)
                rows, columns = np.mgrid[y - r : y + r + 1, x - r : x + r + 1]
                center = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                np.testing.assert_allclose(center, [u, v], atol=0.5)
                found += 1
        assert found >= 4


def test_raw_is_rgb_and_equals_png(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    for image_format in ("png", "raw"):
        flags = ("--components", "rgba", "--image-format", image_format, "--image-size", "128")
        assert make(dataset.root, tmp_path / image_format, *flags) == 0
    png, raw = ShardSet(tmp_path / "png", "train"), ShardSet(tmp_path / "raw", "train")
    frame = cv2.imread(str(dataset.file("rgba", int(raw.meta([0])[0, 2]))), cv2.IMREAD_COLOR)
    assert frame is not None
    decoded = cv2.imdecode(png.member(0, "rgba.png"), cv2.IMREAD_COLOR)
    assert decoded is not None
    stored = numpy_of(raw.member(0, "rgba.npy").tobytes())
    assert (stored.dtype, stored.shape) == (np.uint8, (128, 128, 3))
    np.testing.assert_array_equal(stored[:, :, ::-1], decoded)
    covered = area_weights(800, 128)
    expected = np.einsum("yr,rcb,xc->yxb", covered, frame[:, 240:1040], covered, optimize=True)
    np.testing.assert_allclose(decoded, expected, atol=1)


def area_weights(size: int, smaller: int) -> NDArray[np.float64]:
    """How much of each of ``size`` pixels lies under each of ``smaller`` ones, as shares of the latter."""
    edges = np.arange(smaller + 1) * size / smaller
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(covered, 0, None) * smaller / size


def test_source_keeps_the_files(dataset: TinyDataset, tmp_path: Path) -> None:
    assert make(dataset.root, tmp_path / "set", "--image-format", "source", "--split", "test") == 0
    split = ShardSet(tmp_path / "set", "test")
    assert split.camera == CAMERA
    for index in range(len(split)):
        subject, environment, frame, _ = split.meta([index])[0]
        names = split.manifest.subjects[subject], split.manifest.environments[environment]
        source = next(r for r in dataset.recordings if (r.subject, r.name) == names)
        for component, member in (("rgba", "rgba.png"), ("worldp", "worldp.png")):
            assert split.member(index, member).tobytes() == source.file(component, int(frame)).read_bytes()
        labels = read_labels(source.file("json", int(frame)).read_bytes())
        np.testing.assert_allclose(split.pose([index])[0, :, :2], labels.joints_2d, atol=1e-3)


def test_worldp_keeps_its_depth_channels_and_place(shards: Path) -> None:
    split = ShardSet(shards, "train")
    stored = cv2.imdecode(split.member(0, "worldp.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (stored.dtype, stored.shape) == (np.uint16, (368, 368, 3))
    # each value says which pixel it came from: the one under the stored pixel's center
    place = (np.arange(368) + 0.5) * 800 / 368
    tie = place == np.round(place)  # halfway between two pixels, either will do
    under = np.floor(place).astype(int)
    expected = world_positions()[under][:, 240 + under]
    np.testing.assert_array_equal(stored[~tie][:, ~tie], expected[~tie][:, ~tie])


ALL = ("--components", "rgba", "json", "worldp", "depth", "objectId", "rot")


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
@pytest.mark.parametrize("image_format", ["png", "source"])
def test_every_modality_is_cropped_like_the_image_and_keeps_its_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crop: Crop, image_format: str
) -> None:
    data = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")])
    data.file("rot", 2).unlink()
    # all kinds of values
    depth = np.arange(800 * 1280, dtype=np.uint32).reshape(800, 1280).astype(np.uint16)
    assert cv2.imwrite(str(data.file("depth", 1)), depth)
    assert cv2.imwrite(str(data.file("depth", 2)), depth)
    flags = (*ALL, "--crop", crop, "--image-format", image_format, "--image-size", "160")
    assert make(data.root, tmp_path / "set", *flags) == 0
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 0
    split = ShardSet(tmp_path / "set", "train")
    assert split.members == (
        *("rgba.png", "json", "worldp.png", "depth.png", "objectId.png", "rot.json"),
        *("pose.npy", "meta.npy", "visible.npy"),
    )
    assert split.manifest.preprocessing.crop == crop
    left, top, side = CAMERA.window(crop)
    for index in range(2):
        frame = int(split.meta([index])[0, 2])
        if frame == 1:
            assert split.member(index, "rot.json").tobytes() == data.file("rot", 1).read_bytes()
        else:
            assert json.loads(split.member(index, "rot.json").tobytes()) is None
        for modality in ("worldp", "depth", "objectId"):
            stored = cv2.imdecode(split.member(index, f"{modality}.png"), cv2.IMREAD_UNCHANGED)
            file = cv2.imread(str(data.file(modality, frame)), cv2.IMREAD_UNCHANGED)
            assert stored is not None
            assert file is not None
            if image_format == "source":
                np.testing.assert_array_equal(stored, file)
                continue
            padded = np.zeros((2560, 2560, *file.shape[2:]), file.dtype)
            padded[880:1680, 640:1920] = file
            place = (np.arange(160) + 0.5) * side / 160
            tie = place == np.round(place)  # halfway between two pixels, either will do
            under = np.floor(place).astype(int)
            expected = padded[880 + top + under][:, 640 + left + under]
            assert stored.dtype == file.dtype
            np.testing.assert_array_equal(stored[~tie][:, ~tie], expected[~tie][:, ~tie])
    data.file("rot", 1).write_text("[]")
    assert cv2.imwrite(str(data.file("depth", 2)), depth + np.uint16(1))
    capsys.readouterr()
    assert check(tmp_path / "set", "--deep", "--root", str(data.root)) == 1
    said = capsys.readouterr().out
    assert "000001: its rot.json is not the dataset's" in said
    assert "000002: its depth.png is not the dataset's" in said
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_visibility_is_that_of_the_crop(tmp_path: Path, crop: Crop) -> None:
    data = make_dataset(tmp_path / "data", 1, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    content = json.loads(data.file("json", 1).read_text())
    names = [joint["name"].removeprefix("mixamorig:") for joint in content["joints"]]
    # in the middle; left of the square; above the frame; behind the lens, its label folded back into the middle
    places = {"Neck": (0, 0, 50), "LeftHand": (-50, 0, 6), "Head": (0, -50, 6), "RightHand": (0, 30, -60)}
    points = np.tile([0.0, 0.0, 50.0], (len(names), 1))
    for name, place in places.items():
        points[names.index(name)] = place
    pixels = CAMERA.project(points)
    data.edit_json(1, pts2d_fisheye=pixels.T.tolist(), pts3d_fisheye=points.T.tolist())
    for image_format in ("jpeg", "source"):
        flags = ("--components", "rgba", "--crop", crop, "--image-format", image_format)
        assert make(data.root, tmp_path / image_format, *flags) == 0
        split = ShardSet(tmp_path / image_format, "train")
        visible = dict(zip(JOINTS, numpy_of(split.member(0, "visible.npy").tobytes()).tolist(), strict=True))
        wide = IN_LENS if crop == "square" else IN_IMAGE
        seen = {"Neck": IN_IMAGE, "LeftHand": wide, "Head": wide, "RightHand": UNSEEN}
        assert {name: visible[name] for name in places} == seen


@pytest.mark.parametrize(("mark", "generated"), [({}, False), ({"generated": True}, True), ({"generated": 1}, False)])
def test_the_manifest_says_whether_frames_were_generated(
    tmp_path: Path, mark: dict[str, object], generated: bool
) -> None:
    data = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], modalities=("json",))
    data.edit_json(2, **mark)
    assert make(data.root, tmp_path / "set", "--components", "json") == 0
    assert Manifest.read(tmp_path / "set").generated is generated


@pytest.mark.parametrize("image_format", ["jpeg", "source"])
def test_a_set_of_version_2_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], image_format: str) -> None:
    """As version 2 wrote it: no visibility, no mark, no lens angle; a source set was called full and is a square."""
    data = make_dataset(tmp_path / "data", 3, subjects=[("train", "female_001_a_a")])
    assert make(data.root, tmp_path / "new", "--image-format", image_format) == 0
    new = ShardSet(tmp_path / "new", "train")
    old = tmp_path / "old"
    (old / "train").mkdir(parents=True)
    samples = [
        (new.key(i), {name: new.member(i, name).tobytes() for name in new.members if name != "visible.npy"})
        for i in range(3)
    ]
    shard = write_shard(old / "train" / "train-000000.tar", samples)
    content = json.loads((tmp_path / "new" / FILE_NAME).read_text())
    content["version"] = 2
    content["splits"]["train"]["shards"] = [dataclasses.asdict(shard)]
    del content["generated"], content["camera"]["lens_angle"]
    if image_format == "source":
        content["preprocessing"]["crop"] = "full"
    (old / FILE_NAME).write_text(json.dumps(content))
    manifest = Manifest.read(old)
    assert manifest.preprocessing == new.manifest.preprocessing
    assert (manifest.version, manifest.generated, manifest.camera) == (2, False, new.camera)
    assert Manifest.read(old).to_json() == manifest.to_json()
    assert check(old, "--deep", "--root", str(data.root)) == 0
    loaded = [
        list(
            build_loader(DataConfig(shards=folder, batch_size=3, backend="torch"), "train", outputs=("image", "worldp"))
        )
        for folder in (old, tmp_path / "new")
    ]
    for name, tensor in vars(loaded[0][0]).items():
        assert tensor is None or torch.equal(tensor, getattr(loaded[1][0], name)), name
    capsys.readouterr()
    assert make(data.root, old, "--image-format", image_format) == 2
    assert "holds a finished shard set with format version 2, not 3: give another --output" in capsys.readouterr().err


def test_the_order_is_global_and_depends_on_the_seed(dataset: TinyDataset, shards: Path, tmp_path: Path) -> None:
    first = ShardSet(shards, "train").labels()[1]
    assert len({tuple(row[:3]) for row in first.tolist()}) == 10
    assert len({row[1] for row in first[:4].tolist()}) == 2, "a shard mixes recordings"
    assert sorted(map(tuple, first.tolist())) != list(map(tuple, first.tolist()))
    assert make(dataset.root, tmp_path / "other", "--seed", "1", "--components", "json") == 0
    other = ShardSet(tmp_path / "other", "train").labels()[1]
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(other, axis=0))


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(dataset: TinyDataset, shards: Path, tmp_path: Path) -> None:
    assert make(dataset.root, tmp_path / "two", "--samples-per-shard", "4", workers=2) == 0
    assert tree(tmp_path / "two") == tree(shards)
