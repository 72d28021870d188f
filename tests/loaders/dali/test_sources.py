"""Sequential access: the same contract through DALI's own reader, from disk and from an object store."""

import shutil

import numpy as np
import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, build_loader
from loaders.epoch_order import shard_order
from tests.loaders.object_store import object_store
from tests.shard_factory import make_shard_set

AUGMENT = AugmentConfig(rotation=30, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "shards"
    return make_shard_set(folder, {"train": 23, "val": 7}, image_size=64, components=("rgba", "worldp"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, shards):
    """The tars in an object store; here are manifest and indices alone."""
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(shards, root / "bucket" / "set")
    here = tmp_path_factory.mktemp("here") / "set"
    shutil.copytree(shards, here, ignore=shutil.ignore_patterns("*.tar"))
    with object_store(root) as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        yield root / "bucket" / "set", here


def stream(shards, **kwargs):
    return DataConfig(shards=shards, access="sequential", **{"batch_size": 4, "shuffle_window": 3, **kwargs})


def load(config, split="train", **kwargs):
    loader = build_loader(config, split, **kwargs)
    try:
        return list(loader)
    finally:
        loader.close()


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        for name, tensor in vars(b).items():
            if tensor is not None:
                assert torch.equal(getattr(a, name), tensor), name


@pytest.mark.parametrize("outputs", [("image", "worldp"), ("image",), ()])
def test_evaluation_gives_the_batches_of_mapped_tars(shards, outputs):
    mapped = DataConfig(shards=shards, batch_size=4, backend="dali")
    assert_same(load(stream(shards), "val", outputs=outputs), load(mapped, "val", outputs=outputs))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_stored_formats(tmp_path, image_format):
    shards = make_shard_set(tmp_path / "set", {"train": 6}, image_size=48, image_format=image_format)
    mapped = DataConfig(shards=shards, batch_size=4, backend="dali", image_size=48)
    assert_same(load(stream(shards, image_size=48)), load(mapped))


def test_a_training_sample_is_the_one_of_mapped_tars(shards):
    """Another order, but what happens to a sample depends on seed, epoch and sample alone."""
    mapped = {}
    for batch in load(DataConfig(shards=shards, batch_size=1, backend="dali", augment=AUGMENT), training=True):
        mapped[batch.index.item()] = batch
    for batch in load(stream(shards, augment=AUGMENT), training=True):
        for row, index in enumerate(batch.index.tolist()):
            assert torch.equal(batch.image[row], mapped[index].image[0])
            assert torch.equal(batch.joints_3d[row], mapped[index].joints_3d[0])


@pytest.mark.parametrize("outputs", [("worldp",), ()])
@pytest.mark.parametrize("augment", [AUGMENT, AugmentConfig(contrast=0.2)])
def test_labels_are_augmented_also_without_images(shards, outputs, augment):
    with_images = load(stream(shards, augment=augment), training=True)
    for a, b in zip(load(stream(shards, augment=augment), training=True, outputs=outputs), with_images, strict=True):
        for name in ("index", "joints_2d", "joints_3d"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_shards_follow_each_other_and_neighbors_are_shuffled():
    sizes = [10, 7, 12]
    first = np.cumsum([0, *sizes])
    orders = [shard_order(0, epoch, sizes, 4) for epoch in range(6)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(29))
        shard = np.searchsorted(first, order, "right") - 1
        assert (np.diff(shard) != 0).sum() == 2, "a shard is left only when it is through"
        for number, size in enumerate(sizes):
            windows = (order[shard == number] - first[number]) // 4
            assert (np.diff(windows) >= 0).all()
            assert len(windows) == size
    assert len({tuple(order) for order in orders}) == 6
    assert len({order[0] for order in orders}) > 2


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_resuming_is_exact_also_with_other_ranks(shards, world_size):
    config = stream(shards, batch_size=2, augment=AUGMENT)
    whole = build_loader(config, "train", training=True)
    expected = [*whole, *whole]
    whole.close()
    first = build_loader(config, "train", training=True)
    iterator = iter(first)
    seen = [next(iterator) for _ in range(4)]
    state = first.state_dict()
    iterator.close()
    first.close()
    ranks = [build_loader(config, "train", rank=r, world_size=world_size, training=True) for r in range(world_size)]
    for loader in ranks:
        loader.load_state_dict(state)
    for parts in zip(*ranks, strict=True):
        seen.extend(parts)
    for loader in ranks:
        loader.close()
    assert len(seen) == 4 + (23 - 8) // (2 * world_size) * world_size
    assert_same(seen, expected[: len(seen)])


def test_another_order_is_refused(shards):
    state = build_loader(stream(shards), "train", training=True, outputs=()).state_dict()
    for other in (DataConfig(shards=shards, batch_size=4), stream(shards, shuffle_window=9)):
        with pytest.raises(InputError, match="the run's order was by shards, shuffled within 3 neighbors, now"):
            build_loader(other, "train", training=True, outputs=()).load_state_dict(state)


def test_what_a_stream_cannot_do_is_refused(shards):
    with pytest.raises(InputError, match=r"data.access sequential is DALI's own reader"):
        stream(shards, backend="torch")
    with pytest.raises(InputError, match=r"data.remote needs --data.access sequential: a global shuffle"):
        DataConfig(shards=shards, remote="s3://bucket/set")
    with pytest.raises(InputError, match=r"data.checksums reads whole tars"):
        stream(shards, remote="s3://bucket/set", checksums=True)


@pytest.mark.network
@pytest.mark.parametrize("outputs", [("image", "worldp"), ()])
def test_tars_may_lie_in_an_object_store(store, shards, outputs):
    _, here = store
    remote = stream(here, remote="s3://bucket/set/")
    for split, training in (("val", False), ("train", True)):
        there, on_disk = (load(one, split, training=training, outputs=outputs) for one in (remote, stream(shards)))
        assert_same(there, on_disk)


@pytest.mark.network
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_object_is_named_before_the_first_step(store, damage):
    root, here = store
    tar = root / "train" / "train-000003.tar"
    content = tar.read_bytes()
    tar.unlink()
    if damage == "cut":
        tar.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"^s3://bucket/set/train/train-000003.tar cannot be read"):
        build_loader(stream(here, remote="s3://bucket/set"), "train", training=True)
    tar.write_bytes(content)


@pytest.mark.network
def test_remote_tars_cannot_be_read_at_random(store):
    _, here = store
    loader = build_loader(stream(here, remote="s3://bucket/set"), "val")
    assert loader.shard_set.key(0) == "female_002_a_a-env_001-000001"
    with pytest.raises(InputError, match=r"s3://bucket/set/val/val-000000.tar is not on this machine"):
        loader.shard_set.labels()
