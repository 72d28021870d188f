"""The contract of `build_loader`, on every backend."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, ShardSet, build_loader
from tests.loaders.blobs import blob_center, check_blobs
from tests.shard_factory import COLORS, make_shard_set

AUGMENT = AugmentConfig(rotation=30, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.3)
BACKENDS = ("dali", "torch")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loaders") / "shards"
    return make_shard_set(folder, {"train": 23, "val": 7}, image_size=96, components=("rgba", "worldp"))


def batches(config, split="train", **kwargs):
    loader = build_loader(config, split, **kwargs)
    try:
        return list(loader)
    finally:
        loader.close()


def images(found):
    return torch.cat([batch.image for batch in found]).permute(0, 2, 3, 1).numpy().astype(np.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_are_as_promised(shards, backend):
    loader = build_loader(DataConfig(shards=shards, batch_size=5, backend=backend), "train", training=True)
    found = list(loader)
    assert len(found) == 4
    for batch in found:
        assert batch.image.shape == (5, 3, 96, 96)
        assert batch.image.dtype == torch.uint8
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert batch.joints_2d.shape == (5, 16, 2)
        assert batch.joints_3d.dtype == torch.float32
        assert (batch.joints_3d[:, 0] == 0).all()
        assert batch.meta.dtype == torch.int32
        assert batch.index.dtype == torch.int64
    loader.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_sees_every_sample_once_in_order(shards, backend):
    config = DataConfig(shards=shards, batch_size=3, backend=backend)
    for world_size in (1, 2, 3):
        ranks = [batches(config, "val", rank=r, world_size=world_size) for r in range(world_size)]
        seen = torch.cat([batch.index for found in ranks for batch in found])
        assert sorted(seen.tolist()) == list(range(7))
    assert torch.cat([batch.index for batch in batches(config, "val")]).tolist() == list(range(7))


@pytest.mark.parametrize("augment", [AugmentConfig(), AUGMENT])
@pytest.mark.parametrize("image_size", [None, 64, 128])
def test_backends_agree(shards, augment, image_size):
    config = DataConfig(shards=shards, batch_size=6, augment=augment, image_size=image_size)
    outputs = ("image", "worldp")
    dali, torch_ = (batches(dataclasses.replace(config, backend=b), training=True, outputs=outputs) for b in BACKENDS)
    for a, b in zip(dali, torch_, strict=True):
        for name in ("index", "meta", "joints_2d", "joints_3d"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert (a.image.float() - b.image.float()).abs().mean() < 2
        # nearest neighbor: where the two round a position differently, a neighbor is taken
        assert (a.worldp.to(torch.int32) == b.worldp.to(torch.int32)).float().mean() > 0.97
        assert a.worldp.dtype == b.worldp.dtype == torch.uint16


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("augment", [AugmentConfig(), AUGMENT])
@pytest.mark.parametrize("image_size", [None, 64])
@pytest.mark.parametrize("image_format", ["jpeg", "raw", "source"])
def test_floats_are_the_bytes_normalized(tmp_path, backend, augment, image_size, image_format):
    root = make_shard_set(tmp_path / "set", {"train": 4}, image_size=72, image_format=image_format)
    config = DataConfig(shards=root, batch_size=4, backend=backend, augment=augment, image_size=image_size)
    (plain,) = batches(config, training=True)
    (floats,) = batches(config, training=True, dtype="float32")
    assert floats.image.is_contiguous()
    torch.testing.assert_close(floats.image, plain.image.float() / 127.5 - 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(rotation=180, horizontal_flip=0.5)])
@pytest.mark.parametrize("image_size", [None, 72])
def test_blobs_stay_under_their_joints(shards, backend, augment, image_size):
    """The image's blobs, found by color, against the loaded 2D labels."""
    config = DataConfig(shards=shards, batch_size=8, backend=backend, augment=augment, image_size=image_size)
    assert check_blobs(batches(config, training=True)) > 10


def test_colors_are_rgb(shards):
    for backend in BACKENDS:
        batch = batches(DataConfig(shards=shards, batch_size=7, backend=backend), "val")[0]
        image, joints = images([batch])[0], batch.joints_2d[0].round().int().numpy()
        errors = [np.abs(image[v, u] - color).mean() for (u, v), color in zip(joints, COLORS, strict=True)]
        assert np.median(errors) < 30


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_fast_dct_is_for_training_alone(shards, backend):
    config = DataConfig(shards=shards, batch_size=7, backend=backend)
    fast = dataclasses.replace(config, fast_dct=True)
    off = np.abs(images(batches(fast, training=True)) - images(batches(config, training=True)))
    assert 0.1 < off.mean() < 1.5
    assert off.max() < 25
    assert (images(batches(fast, "val")) == images(batches(config, "val"))).all()


@pytest.mark.parametrize("image_format", ["png", "raw", "source"])
def test_stored_formats(tmp_path, image_format):
    jpeg = make_shard_set(tmp_path / "jpeg", {"train": 4}, image_size=96)
    other = make_shard_set(tmp_path / "other", {"train": 4}, image_size=96, image_format=image_format)
    found = {}
    for backend in BACKENDS:
        config = DataConfig(shards=other, batch_size=4, backend=backend, image_size=96)
        found[backend] = batches(config, "train")
        assert found[backend][0].image.shape == (4, 3, 96, 96)
    assert np.abs(images(found["dali"]) - images(found["torch"])).mean() < 2
    if image_format != "source":
        plain = batches(DataConfig(shards=jpeg, batch_size=4), "train")
        assert np.abs(images(found["dali"]) - images(plain)).mean() < 4
        assert torch.equal(found["dali"][0].joints_2d, plain[0].joints_2d)
    else:
        config = DataConfig(shards=other, batch_size=4, backend="dali", image_size=400)
        batch = batches(config, "train")[0]
        for joint in batch.joints_2d[0].numpy():
            others = np.linalg.norm(batch.joints_2d[0].numpy() - joint, axis=1)
            if np.sort(others)[1] > 70:
                np.testing.assert_allclose(blob_center(images([batch])[0], joint), joint, atol=0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_is_exact_to_the_sample(shards, backend):
    config = DataConfig(shards=shards, batch_size=4, backend=backend, augment=AUGMENT)
    whole = build_loader(config, "train", training=True)
    expected = [*whole, *whole]
    whole.close()
    for stop in (1, 4, 5, 6):
        first = build_loader(config, "train", training=True)
        seen = []
        while len(seen) < stop:
            for batch in first:
                seen.append(batch)
                if len(seen) == stop:
                    break
        state = first.state_dict()
        first.close()
        second = build_loader(config, "train", training=True)
        second.load_state_dict(state)
        while len(seen) < len(expected):
            seen.extend(second)
        second.close()
        for a, b in zip(seen, expected, strict=True):
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.image, b.image)
            assert torch.equal(a.joints_3d, b.joints_3d)


def test_state_goes_on_with_another_number_of_ranks(shards):
    config = DataConfig(shards=shards, batch_size=2)
    whole = torch.cat([batch.index for batch in batches(config, training=True, outputs=())])
    first = build_loader(config, "train", training=True, outputs=())
    iterator = iter(first)
    seen = [next(iterator).index for _ in range(3)]
    ranks = [build_loader(config, "train", rank=r, world_size=3, training=True, outputs=()) for r in range(3)]
    for loader in ranks:
        loader.load_state_dict(first.state_dict())
    for parts in zip(*ranks, strict=True):
        seen.extend(part.index for part in parts)
    assert torch.cat(seen).tolist() == whole[: 6 + 12].tolist()


def test_another_shard_set_is_refused(tmp_path, shards):
    state = build_loader(DataConfig(shards=shards, batch_size=2), "train", training=True).state_dict()
    other = make_shard_set(tmp_path / "other", {"train": 23}, image_size=96, seed=4)
    loader = build_loader(DataConfig(shards=other, batch_size=2), "train", training=True)
    with pytest.raises(InputError, match=f"{state['fingerprint']}.*{loader.shard_set.fingerprint}"):
        loader.load_state_dict(state)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_abandoned_epoch_leaves_nothing_behind(shards, backend):
    loader = build_loader(DataConfig(shards=shards, batch_size=4, backend=backend), "train", training=True)
    first = next(iter(loader))
    loader.set_epoch(3)
    loader.set_epoch(0)
    again = list(loader)
    assert len(again) == 5
    assert torch.equal(first.image, again[0].image)
    assert loader.epoch == 1
    loader.close()


def test_labels_alone_equal_those_beside_images(shards):
    config = DataConfig(shards=shards, batch_size=4, augment=AUGMENT, backend="torch")
    images = batches(config, training=True)
    labels = batches(config, training=True, outputs=())
    for a, b in zip(images, labels, strict=True):
        assert b.image is None
        assert torch.equal(a.joints_2d, b.joints_2d)
        assert torch.equal(a.joints_3d, b.joints_3d)
        assert torch.equal(a.index, b.index)


def test_a_cached_batch_is_the_first_one_repeated(shards):
    found = batches(DataConfig(shards=shards, batch_size=4), training=True, cached_batch=True)
    assert len(found) == 5
    assert all(batch is found[0] for batch in found)


def test_what_cannot_work_is_refused(tmp_path, shards):
    with pytest.raises(InputError, match="23 samples, fewer than one batch of 24"):
        build_loader(DataConfig(shards=shards, batch_size=8), "train", world_size=3, training=True)
    with pytest.raises(InputError, match="is no finished shard set"):
        build_loader(DataConfig(shards=tmp_path), "train")
    empty = make_shard_set(tmp_path / "empty", {"train": 0})
    with pytest.raises(InputError, match="has no samples"):
        build_loader(DataConfig(shards=empty), "train")
    plain = make_shard_set(tmp_path / "plain", {"train": 2})
    with pytest.raises(InputError, match="holds no worldp"):
        build_loader(DataConfig(shards=plain), "train", outputs=("image", "worldp"))


def test_worldp_is_exact(shards):
    shard_set = ShardSet(shards, "val")
    stored = cv2.imdecode(shard_set.member(0, "worldp.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    for backend in BACKENDS:
        batch = batches(DataConfig(shards=shards, batch_size=2, backend=backend), "val", outputs=("worldp",))[0]
        assert batch.image is None
        np.testing.assert_array_equal(batch.worldp[0].permute(1, 2, 0).numpy(), stored)
