"""Depth, objects, world positions and rotations: the values that were stored, where the image shows them."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, ShardSet, build_loader
from loaders.augment import draw
from loaders.codecs import decode_exact
from loaders.format.manifest import FILE_NAME, Split
from loaders.preprocessing import cut_window
from models.xr_egopose import JOINTS, SKELETON
from tests.shard_factory import make_shard_set, write_shard

COMPONENTS = ("rgba", "worldp", "depth", "objectId", "rot")
EXACT = ("worldp", "depth", "object_id")
MEMBERS = {"worldp": "worldp.png", "depth": "depth.png", "object_id": "objectId.png"}
WAYS = {
    "torch": {"backend": "torch"},
    "dali": {"backend": "dali"},
    "sequential": {"backend": "dali", "access": "sequential"},
}
MOVED = AugmentConfig(rotation=180, horizontal_flip=0.5)
SETS = [("jpeg", "square"), ("raw", "lens"), ("source", "square"), ("source", "full")]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modalities")
    return {
        (form, crop): make_shard_set(
            folder / form / crop, {"train": 5}, image_size=96, image_format=form, crop=crop, components=COMPONENTS
        )
        for form, crop in SETS
    }


def load(root, way, *, outputs=EXACT, training=False, **flags):
    config = DataConfig(shards=root, batch_size=2, **WAYS[way], **flags)
    loader = build_loader(config, "train", outputs=outputs, training=training)
    try:
        return list(loader), loader
    finally:
        loader.close()


def rewrite(root, change):
    """Write the only shard anew, with what ``change`` returns for a sample's position and members."""
    shard_set, samples = ShardSet(root, "train"), []
    for index in range(len(shard_set)):
        members = {name: shard_set.member(index, name).tobytes() for name in shard_set.members}
        samples.append((shard_set.key(index), change(index, members)))
    shard = write_shard(root / "train" / shard_set.shards[0].name, samples)
    manifest = dataclasses.replace(shard_set.manifest, splits={"train": Split((shard,))})
    (root / FILE_NAME).write_text(manifest.to_json())


@pytest.fixture
def one_shard(tmp_path):
    return make_shard_set(
        tmp_path / "set", {"train": 6}, image_size=64, samples_per_shard=6, components=("rgba", "depth", "rot")
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("image_size", [None, 60])
@pytest.mark.parametrize("which", SETS)
def test_values_are_those_stored_under_each_pixels_center(sets, way, which, image_size):
    batches, loader = load(sets[which], way, image_size=image_size)
    shard_set = ShardSet(sets[which], "train")
    side, size = shard_set.window[2], loader.image_size
    under = (2 * np.arange(size) + 1) * side // (2 * size)
    for batch in batches:
        for name, channels, dtype in (
            ("worldp", 3, torch.uint16),
            ("depth", 1, torch.uint16),
            ("object_id", 4, torch.uint8),
        ):
            values = getattr(batch, name)
            assert values.shape == (len(batch), channels, size, size)
            assert values.dtype == dtype
            for row, index in enumerate(batch.index.tolist()):
                stored = decode_exact(shard_set.member(index, MEMBERS[name]))
                expected = np.atleast_3d(cut_window(stored, shard_set.window))[under][:, under]
                np.testing.assert_array_equal(values[row].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("image_size", [None, 60])
@pytest.mark.parametrize("which", SETS)
def test_all_ways_move_values_alike_bit_for_bit(sets, which, image_size):
    found = {
        way: load(sets[which], way, outputs=("image", *EXACT), training=True, augment=MOVED, image_size=image_size)[0]
        for way in ("torch", "dali")
    }
    compared = 0
    for a, b in zip(*found.values(), strict=True):
        assert torch.equal(a.index, b.index)
        for name in EXACT:
            assert torch.equal(getattr(a, name), getattr(b, name)), name
            assert len(np.unique(getattr(a, name).numpy())) > 20
            compared += 1
    assert compared == 6
    # a stream has another order
    streamed, _ = load(sets[which], "sequential", training=True, augment=MOVED, image_size=image_size)
    again = {int(i): batch.depth[row] for batch in found["torch"] for row, i in enumerate(batch.index)}
    for batch in streamed:
        for row, index in enumerate(batch.index.tolist()):
            if index in again:
                assert torch.equal(batch.depth[row], again[index])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", SETS)
def test_a_disc_painted_into_the_objects_stays_under_its_joint(sets, way, which):
    batches, _ = load(sets[which], way, outputs=("object_id",), training=True, augment=MOVED, image_size=192)
    checked = 0
    for batch in batches:
        flipped = draw(MOVED, 0, 0, batch.index.numpy()).flip
        for row, objects in enumerate(batch.object_id[:, 0].numpy()):
            joints = batch.joints_2d[row].numpy()
            for joint, place in enumerate(joints):
                others = np.sort(np.linalg.norm(joints - place, axis=1))[1]
                if others > 16 and (place > 10).all() and (place < 181).all():
                    value = 1 + (SKELETON.flip_indices[joint] if flipped[row] else joint)
                    rows, columns = np.nonzero(objects == value)
                    np.testing.assert_allclose([columns.mean(), rows.mean()], place, atol=0.7)
                    checked += 1
    assert checked > 10


@pytest.mark.parametrize("way", WAYS)
def test_values_outside_the_frame_are_zero_and_lie_where_the_crop_has_them(sets, way):
    (batch, *_), loader = load(sets["source", "full"], way, outputs=("image", "depth", "worldp"))
    assert (batch.image[:, :, :240] == 0).all()
    assert (batch.image[:, :, 1040:] == 0).all()
    assert (batch.image[:, :, 240:1040] > 0).any(3).all()
    assert loader.image_size == 1280
    # depth says which column it is of, worldp also which row
    np.testing.assert_array_equal(batch.depth[0, 0, 300].numpy(), np.arange(1280) * 40)
    np.testing.assert_array_equal(batch.worldp[0, 1, 240:1040, 7].numpy(), np.arange(800) * 40)
    assert (batch.worldp[:, :, :240].to(torch.int32) == 0).all()


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("image_size", [None, 60])
def test_images_of_all_crops_are_alike_on_both_backends(sets, which, image_size):
    found = [load(sets[which], way, outputs=("image",), image_size=image_size)[0] for way in ("torch", "dali")]
    for a, b in zip(*found, strict=True):
        assert a.image.shape == b.image.shape
        assert (a.image.float() - b.image.float()).abs().mean() < 2
        assert torch.equal(a.joints_2d, b.joints_2d)


@pytest.mark.parametrize("which", SETS)
def test_the_stored_visibility_is_what_batches_say(sets, which):
    shard_set = ShardSet(sets[which], "train")
    batches, _ = load(sets[which], "torch", outputs=())
    for batch in batches:
        for row, index in enumerate(batch.index.tolist()):
            stored = np.frombuffer(shard_set.member(index, "visible.npy")[-16:], np.uint8)
            np.testing.assert_array_equal(batch.visible[row].numpy(), stored)


@pytest.mark.parametrize("way", WAYS)
def test_rotations_are_those_of_the_joints_by_name(sets, way):
    """Also of samples that are rotated: they are of the world."""
    root = sets["jpeg", "square"]
    shard_set, empty = ShardSet(root, "train"), 0
    for flags in ({"outputs": ("rot",)}, {"outputs": ("image", "rot"), "training": True}):
        batches, _ = load(root, way, augment=AugmentConfig(rotation=90), **flags)
        for batch in batches:
            assert (batch.rot.shape, batch.rot.dtype) == ((len(batch), 16, 3), torch.float32)
            for row, index in enumerate(batch.index.tolist()):
                listed = json.loads(shard_set.member(index, "rot.json").tobytes())
                by_name = {entry["name"]: entry["rot"] for entry in listed or []}
                nothing = [np.nan] * 3
                expected = [by_name.get(f"mixamorig:{name}", nothing) for name in JOINTS]
                np.testing.assert_array_equal(batch.rot[row].numpy(), np.array(expected, np.float32))
                assert batch.rot[row, 0].isnan().all()
                empty += listed is None
    assert empty


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outputs", [("rot",), ("image", "rot")])
@pytest.mark.parametrize(
    "content", [b"{}x", b"{}", b'[{"name": 3}]', b'[{"name": "Head", "rot": [1, 2]}]', b"[1]", b"17", b""]
)
def test_rotations_of_unknown_structure_are_named_or_skipped(one_shard, way, outputs, content):
    rewrite(one_shard, lambda i, members: members | ({"rot.json": content} if i == 4 else {}))
    with pytest.raises(InputError, match=r"000005.rot.json at byte \d+ cannot be decoded"):
        load(one_shard, way, outputs=outputs)
    batches, loader = load(one_shard, way, outputs=outputs, on_bad_sample="skip")
    assert torch.cat([batch.index for batch in batches]).tolist() == [0, 1, 2, 3, 5]
    assert set(loader.skipped) == {4}


def test_rotations_do_not_go_with_a_flip(one_shard):
    config = DataConfig(shards=one_shard, batch_size=2, augment=AugmentConfig(horizontal_flip=0.5))
    with pytest.raises(InputError, match=r"data\.augment\.horizontal_flip"):
        build_loader(config, "train", training=True, outputs=("rot",))
    build_loader(config, "train", outputs=("rot",)).close()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_png_comes_as_it_is(one_shard, channels, bits):
    random = np.random.default_rng(0)
    values = random.integers(0, 2**bits, (6, 64, 64, channels), np.uint16 if bits == 16 else np.uint8)
    as_opencv = values[..., [2, 1, 0, 3][:channels]] if channels > 1 else values
    pngs = [cv2.imencode(".png", image)[1].tobytes() for image in as_opencv]
    rewrite(one_shard, lambda i, members: members | {"depth.png": pngs[i]})
    for way in WAYS:
        batches, _ = load(one_shard, way, outputs=("depth",))
        found = np.concatenate([batch.depth.permute(0, 2, 3, 1).numpy() for batch in batches])
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint16)])
def test_a_png_of_another_kind_than_the_others_is_named_or_skipped(one_shard, way, other):
    png = cv2.imencode(".png", other)[1].tobytes()
    rewrite(one_shard, lambda i, members: members | ({"depth.png": png} if i == 2 else {}))
    with pytest.raises(InputError, match=r"000003.depth.png at byte \d+ has \d channels of \d+ bits, others"):
        load(one_shard, way, outputs=("depth",))
    batches, _ = load(one_shard, way, outputs=("depth",), on_bad_sample="skip")
    assert torch.cat([batch.index for batch in batches]).tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("way", ["torch", "dali"])
def test_a_png_that_ends_too_early_is_named(one_shard, way):
    rewrite(one_shard, lambda i, members: members | ({"depth.png": members["depth.png"][:-200]} if i == 2 else {}))
    with pytest.raises(InputError, match=r"000003.depth.png at byte \d+ cannot be decoded \(it ends too early\)"):
        load(one_shard, way, outputs=("depth",))
