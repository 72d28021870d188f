"""Shard sets of other cameras, skeletons and picture sizes than xR-EgoPose's."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
import webdataset as wds

from loaders import AugmentConfig, DataConfig, InputError, build_loader, decode_sample
from loaders.augment import draw
from loaders.format.manifest import Manifest
from models.camera import UNSEEN, PinholeCamera
from models.xr_egopose import CAMERA, SKELETON
from tests.loaders.blobs import check_blobs
from tests.other_datasets import BODY, FRAMES
from tests.shard_factory import make_shard_set

GROUPS = {"Sport": ("run", "jump"), "Rest": ("sit",)}
SPLITS = {"train": 8, "test": 2}


@pytest.fixture(scope="module", params=FRAMES)
def shards(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param) / "set"
    return make_shard_set(
        root,
        SPLITS,
        image_size=96,
        frame=FRAMES[request.param],
        skeleton=BODY,
        groups=GROUPS,
        actions=("jump", "sit", "eat"),
    )


def load(shards, outputs=("image",), **options):
    config = DataConfig(shards=shards, batch_size=8, **options)
    loader = build_loader(config, "train", training=True, outputs=outputs)
    (batch,) = list(loader)
    loader.close()
    return loader, batch


def test_the_manifest_says_what_a_pose_is(shards):
    manifest = Manifest.read(shards)
    frame = FRAMES[shards.parent.name.rstrip("0123456789")]
    assert (manifest.dataset, manifest.skeleton, manifest.preprocessing.frame) == ("another", BODY, frame)
    assert manifest.camera == frame.cropped("square", 96)
    assert (manifest.action_groups, manifest.groups) == (GROUPS, ("Sport", "Rest", None))
    assert json.loads((shards / "manifest.json").read_text())["camera"]["model"] == frame.model


@pytest.mark.parametrize("backend", ["dali", "torch"])
@pytest.mark.parametrize("image_size", [None, 72])
@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(rotation=180, horizontal_flip=0.5)])
def test_blobs_stay_under_their_joints(shards, backend, augment, image_size):
    loader, batch = load(shards, backend=backend, augment=augment, image_size=image_size)
    assert batch.joints_2d.shape == (8, 15, 2)
    assert check_blobs([batch]) > 10
    # and the pose is what the camera shows there; where it is in space, only the root's place is lost
    root = loader.shard_set.pose(batch.index)[:, BODY.root, 2:]
    linear = draw(augment, 0, 0, batch.index.numpy()).linear()
    root = np.concatenate([np.einsum("nij,nj->ni", linear, root[:, :2]), root[:, 2:]], axis=1)
    seen = (batch.visible != UNSEEN).numpy()
    projected = loader.camera.project(batch.joints_3d.numpy() + root[:, None])
    np.testing.assert_allclose(projected[seen], batch.joints_2d.numpy()[seen], atol=0.02)
    assert not batch.joints_3d[:, BODY.root].any()


def test_labels_alone_are_the_same(shards):
    augment = AugmentConfig(rotation=90, horizontal_flip=0.5)
    (_, images), (_, labels) = load(shards, augment=augment), load(shards, (), augment=augment)
    for name in ("joints_2d", "joints_3d", "visible", "meta", "index"):
        assert torch.equal(getattr(images, name), getattr(labels, name)), name


def test_webdataset_reads_them_with_their_skeleton(shards):
    urls = str(shards / "test" / "test-000000.tar")
    raw = list(wds.WebDataset(urls, shardshuffle=False))
    samples = [decode_sample(sample, BODY) for sample in raw]
    assert [sample["joints_3d"].shape for sample in samples] == [(15, 3), (15, 3)]
    assert not any(sample["joints_3d"][BODY.root].any() for sample in samples)
    with pytest.raises(InputError, match="has 15 joints, the skeleton 16"):
        decode_sample(raw[0])


def test_rotations_are_found_by_the_names_of_the_joints(tmp_path):
    root = make_shard_set(tmp_path / "set", SPLITS, components=("rgba", "rot"), skeleton=BODY, frame=FRAMES["ocam"])
    _, batch = load(root, ("rot",))
    known = batch.rot.isfinite().all(2)
    assert batch.rot.shape == (8, 15, 3)
    # the factory leaves out the first joint, and writes half of the files
    assert set(known.sum(1).tolist()) == {0, 14}
    assert not known[:, 0].any()


def test_joints_without_left_and_right_are_not_flipped(tmp_path):
    skeleton = dataclasses.replace(BODY, mirror_pairs=())
    root = make_shard_set(tmp_path / "set", SPLITS, skeleton=skeleton)
    with pytest.raises(InputError, match="names no left and right joints"):
        load(root, augment=AugmentConfig(horizontal_flip=0.5))
    load(root, augment=AugmentConfig(rotation=10))


def test_what_a_rotated_image_is_off_is_said(tmp_path, caplog):
    frame = PinholeCamera(640, 480, 300.0, 310.0, 318.0, 244.0, (-0.1, 0.01, 0.01, 0.004, 0.0))
    root = make_shard_set(tmp_path / "set", SPLITS, frame=frame, skeleton=BODY, image_size=240)
    with caplog.at_level(logging.WARNING):
        load(root)
        assert not caplog.messages
        load(root, augment=AugmentConfig(rotation=10))
    off = frame.cropped("square", 240).asymmetry()
    assert caplog.messages == [
        f"tangential distortion of the camera: a rotated or flipped image is up to {off:.1f} px off the pose that it "
        "shows; undistort the images, or set data.augment.rotation and horizontal_flip to 0"
    ]


def test_a_manifest_of_before_other_datasets_is_xr_egoposes(tmp_path):
    root = make_shard_set(tmp_path / "set", SPLITS)
    content = json.loads((root / "manifest.json").read_text())
    for name in ("dataset", "action_groups"):
        del content[name]
    del content["preprocessing"]["frame"], content["camera"]["model"]
    content["skeleton"] = {name: content["skeleton"][name] for name in ("joints", "bones")}
    (root / "manifest.json").write_text(json.dumps(content))
    manifest = Manifest.read(root)
    assert (manifest.skeleton, manifest.preprocessing.frame, manifest.dataset) == (SKELETON, CAMERA, "xR-EgoPose")
    assert manifest.groups[:2] == ("Gaming", "Gaming")
    content["skeleton"]["joints"][0] = "Throat"
    (root / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest\.json lists other joints than xR-EgoPose has"):
        Manifest.read(root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m["camera"].update(cx=0.0), "camera is another than its preprocessing makes"),
        (lambda m: m["preprocessing"]["frame"].update(model="fisheye624"), "no camera of a model among kannala"),
        (lambda m: m["preprocessing"]["frame"].pop("polynomial"), "OcamCamera has no polynomial"),
        (lambda m: m["skeleton"].update(parents=[0] * 3), "one parent for each"),
        (lambda m: m["skeleton"].pop("mirror_pairs"), "Skeleton has no mirror_pairs"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, change, reason):
    root = make_shard_set(tmp_path / "set", SPLITS, frame=FRAMES["ocam"], skeleton=BODY)
    content = json.loads((root / "manifest.json").read_text())
    change(content)
    (root / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"manifest.json is damaged .*{reason}"):
        Manifest.read(root)
