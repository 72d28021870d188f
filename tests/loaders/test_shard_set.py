import json
from pathlib import Path

import numpy as np
import pytest

from loaders import InputError, ShardSet
from tests.shard_factory import make_shard_set


@pytest.fixture
def shards(tmp_path):
    return make_shard_set(tmp_path / "shards", {"train": 10, "val": 3}, samples_per_shard=4)


def test_samples_are_read_from_every_shard(shards):
    shard_set = ShardSet(shards, "train")
    assert len(shard_set) == 10
    assert len(shard_set.shards) == 3
    np.testing.assert_array_equal(shard_set.meta(range(10))[:, 2], np.arange(1, 11))
    pose, meta = shard_set.labels()
    assert pose.shape == (10, 16, 5)
    np.testing.assert_array_equal(meta, shard_set.meta(range(10)))
    np.testing.assert_allclose(shard_set.camera.project(pose[..., 2:]), pose[..., :2], atol=1e-3)
    assert shard_set.key(9) == "female_001_a_a-env_001-000010"
    assert shard_set.member(0, "rgba.jpg")[:2].tobytes() == b"\xff\xd8"


def test_order_and_content_decide_the_fingerprint(tmp_path, shards):
    again = make_shard_set(tmp_path / "again", {"train": 10, "val": 3}, samples_per_shard=4)
    other = make_shard_set(tmp_path / "other", {"train": 10, "val": 3}, samples_per_shard=4, seed=1)
    assert ShardSet(shards, "train").fingerprint == ShardSet(again, "train").fingerprint
    assert ShardSet(shards, "train").fingerprint != ShardSet(other, "train").fingerprint


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10240])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


def edit_manifest(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


FAULTS = {
    "missing shard": (lambda p: (p / "train/train-000001.tar").unlink(), "train-000001.tar is missing"),
    "cut shard": (lambda p: cut(p / "train/train-000001.tar"), "train-000001.tar has .* bytes"),
    "altered byte": (lambda p: alter(p / "train/train-000002.tar"), "train-000002.tar was altered"),
    "missing index": (lambda p: (p / "train/train-000000.idx").unlink(), "train-000000.idx is missing"),
    "short index": (lambda p: (p / "train/train-000000.idx").write_text("v1.2 3\n"), "train-000000.idx begins"),
    "garbled index": (lambda p: (p / "train/train-000000.idx").write_text("v1.2 4\na b c\n"), "idx is malformed"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "no finished shard set"),
    "manifest of another version": (lambda p: edit_manifest(p / "manifest.json", version=7), "format version 7"),
    "foreign manifest": (lambda p: edit_manifest(p / "manifest.json", format="x"), "does not describe a shard set"),
    "damaged manifest": (lambda p: edit_manifest(p / "manifest.json", camera={}), "damaged"),
    "no JSON": (lambda p: (p / "manifest.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_before_the_first_step(shards, fault):
    damage, message = FAULTS[fault]
    damage(shards)
    with pytest.raises(InputError, match=message):
        ShardSet(shards, "train", checksums=True)


def test_an_absent_split_is_named(shards):
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        ShardSet(shards, "test")
