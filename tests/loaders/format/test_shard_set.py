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


def test_an_absent_split_is_named(shards):
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        ShardSet(shards, "test")


def test_samples_that_do_not_hold_the_same_are_named(shards):
    index = shards / "train" / "train-000001.idx"
    head, first, second, rest = index.read_text().split("\n", 3)
    index.write_text("\n".join([head, first, second.replace(" meta.npy ", " depth.png ", 1), rest]))
    with pytest.raises(InputError, match=r"train-000001\.idx: samples with different members"):
        ShardSet(shards, "train")
