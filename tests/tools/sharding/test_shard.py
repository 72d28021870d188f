from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from models.camera import XR_EGOPOSE
from tests.tools.shard_runs import make, numpy_of, tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset, world_positions
from tools.dataset.layout import read_labels


def test_a_sample_holds_the_members_in_order_with_their_types_and_values(dataset: TinyDataset, shards: Path) -> None:
    manifest = Manifest.read(shards)
    seen = set()
    for tar_path in sorted(shards.glob("*/*.tar")):
        with tarfile.open(tar_path) as tar:
            members = tar.getmembers()
            content = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        for at in range(0, len(members), 5):
            group = [member.name.partition(".") for member in members[at : at + 5]]
            key = group[0][0]
            assert [(k, extension) for k, _, extension in group] == [
                (key, name) for name in ("rgba.jpg", "json", "worldp.png", "pose.npy", "meta.npy")
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
            assert source.split == tar_path.parent.name
            seen.add(key)
        assert {(m.uid, m.gid, m.mtime, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
    assert len(seen) == 20


def test_the_manifest_says_what_was_made(shards: Path) -> None:
    manifest = Manifest.read(shards)
    assert manifest.camera == XR_EGOPOSE.cropped("square", 368)
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
    assert split.camera == XR_EGOPOSE
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
