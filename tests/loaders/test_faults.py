"""Faults of a shard set: each is named, before the first step where that is possible; none hangs, none passes."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
import torch

from loaders import DataConfig, InputError, ShardSet, build_loader
from loaders.format.sample import encode_array
from tests.shard_factory import encode_image, make_sample, make_shard_set, write_shard

SHARD, INDEX, MANIFEST = "train/train-000001.tar", "train/train-000001.idx", "manifest.json"


@pytest.fixture
def shards(tmp_path):
    return make_shard_set(tmp_path / "shards", {"train": 12, "val": 3}, samples_per_shard=4)


def cut_at(root, sample):
    """Cut a shard where a sample begins (whole number) or in the middle of one."""
    path = root / SHARD
    shard_set = ShardSet(root, "train")
    first, second = (shard_set.span(4 + int(sample) + k, "rgba.jpg")[0] - 512 for k in (0, 1))
    path.write_bytes(path.read_bytes()[: first if sample == int(sample) else (first + second) // 2])


def alter(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def edit_manifest(root, **changes):
    content = json.loads((root / MANIFEST).read_text())
    (root / MANIFEST).write_text(json.dumps({**content, **changes}))


def rewrite(root, change):
    """Write a shard anew, one of its samples changed, and enter its size and checksum into the manifest."""
    shard_set = ShardSet(root, "train")
    random = np.random.default_rng(0)
    samples = []
    for index in range(4, 8):
        _, members = make_sample(shard_set.camera, shard_set.manifest.preprocessing, ("rgba",), random)
        members |= {name: shard_set.member(index, name).tobytes() for name in ("meta.npy", "visible.npy")}
        samples.append((shard_set.key(index), change(members) if index == 6 else members))
    shard = write_shard(root / SHARD, samples)
    content = json.loads((root / MANIFEST).read_text())
    content["splits"]["train"]["shards"][1] = vars(shard)
    (root / MANIFEST).write_text(json.dumps(content))


def replaced(member, content):
    return lambda members: {**members, member: content}


def text(path, content):
    path.write_text(content)


def exchange_indices(root):
    shutil.copy(root / "train/train-000002.idx", root / INDEX)


AT_OPENING = {
    "no manifest": (lambda r: (r / MANIFEST).unlink(), "is no finished shard set: it has no manifest.json"),
    "no folder": (shutil.rmtree, "is no finished shard set"),
    "manifest of another version": (lambda r: edit_manifest(r, version=7), "format version 7"),
    "foreign manifest": (lambda r: edit_manifest(r, format="x"), "does not describe a shard set"),
    "damaged manifest": (lambda r: edit_manifest(r, camera={}), "damaged"),
    "no JSON": (lambda r: text(r / MANIFEST, "{"), "not JSON"),
    "missing shard": (lambda r: (r / SHARD).unlink(), "train-000001.tar is missing"),
    "shard cut between samples": (lambda r: cut_at(r, 2), r"train-000001.tar has \d+ bytes, the manifest says"),
    "shard cut within a sample": (lambda r: cut_at(r, 1.5), r"train-000001.tar has \d+ bytes, the manifest says"),
    "missing index": (lambda r: (r / INDEX).unlink(), "train-000001.idx is missing"),
    "short index": (lambda r: text(r / INDEX, "v1.2 3\n"), "train-000001.idx begins"),
    "garbled index": (lambda r: text(r / INDEX, "v1.2 4\na b c\n"), "train-000001.idx is malformed"),
    "index of another shard": (exchange_indices, "train-000001.idx points elsewhere|train-000001.tar: its index disag"),
    "zero-byte label": (lambda r: rewrite(r, replaced("pose.npy", b"")), r"000007.pose.npy at byte \d+ has 0 bytes"),
    "label of another shape": (
        lambda r: rewrite(r, replaced("meta.npy", encode_array(np.zeros(40)))),
        r"000007.meta.npy at byte \d+ has 448 bytes, not 144",
    ),
}


@pytest.mark.parametrize("fault", AT_OPENING)
def test_a_fault_is_named_before_the_first_step(shards, fault):
    damage, message = AT_OPENING[fault]
    damage(shards)
    with pytest.raises(InputError, match=message):
        build_loader(DataConfig(shards=shards), "train")


def test_an_index_that_fits_another_tar_of_equal_size_is_found(tmp_path):
    """Raw samples are all of one size, so only the names in the headers tell two tars apart."""
    shards = make_shard_set(tmp_path / "raw", {"train": 8}, image_format="raw", samples_per_shard=4, image_size=32)
    shutil.copy(shards / "train/train-000000.idx", shards / INDEX)
    with pytest.raises(InputError, match=r"train-000001.tar: its index disagrees with its headers: .*000005.rgba.npy"):
        ShardSet(shards, "train")


def test_an_altered_byte_is_found_by_its_checksum(shards):
    alter(shards / SHARD, ShardSet(shards, "train").span(5, "rgba.jpg")[0] + 100)
    build_loader(DataConfig(shards=shards), "train").close()
    with pytest.raises(InputError, match=r"train-000001.tar was altered"):
        build_loader(DataConfig(shards=shards, checksums=True), "train")


def test_checksums_compare_every_header_with_the_index(shards):
    path = shards / INDEX
    first, second, third = (f"env_001-00000{n}." for n in (6, 7, 9))
    path.write_text(path.read_text().replace(first, third).replace(second, first).replace(third, second))
    build_loader(DataConfig(shards=shards), "train").close()
    with pytest.raises(InputError, match=r"train-000001.tar: its index disagrees with its headers"):
        build_loader(DataConfig(shards=shards, checksums=True), "train")


@contextlib.contextmanager
def without_privileges():
    """Do what follows as a user who may read nothing but what everybody may."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [".", "train", MANIFEST, SHARD, INDEX])
def test_what_may_not_be_read_is_named(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("unreadable")
    shards = make_shard_set(folder / "shards", {"train": 8}, samples_per_shard=4)
    for path in (*folder.parents, folder):
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o77 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    (shards / name).chmod(0)
    try:
        with without_privileges(), pytest.raises(InputError, match=r"shards.*cannot be read \(Permission denied\)"):
            build_loader(DataConfig(shards=shards), "train")
    finally:
        (shards / name).chmod(0o700)


WAYS = {
    "dali": {"backend": "dali"},
    "torch": {"backend": "torch"},
    "sequential": {"backend": "dali", "access": "sequential"},
}
BAD_IMAGES = {
    "zero bytes": lambda members: b"",
    "zeros": lambda members: bytes(len(members["rgba.jpg"])),
    "garbage": lambda members: np.random.default_rng(0).bytes(3000),
    "text": lambda members: b"no image",
    "cut": lambda members: members["rgba.jpg"][: len(members["rgba.jpg"]) // 2],
    "another size": lambda members: encode_image(np.zeros((32, 48, 3), np.uint8), "jpeg"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("image_size", [None, 48])
@pytest.mark.parametrize("image", BAD_IMAGES)
def test_a_bad_image_is_named(shards, way, image_size, image):
    rewrite(shards, lambda members: {**members, "rgba.jpg": BAD_IMAGES[image](members)})
    loader = build_loader(DataConfig(shards=shards, batch_size=3, image_size=image_size, **WAYS[way]), "train")
    place = r"train-000001.tar: female_001_a_a-env_001-000007.rgba.jpg at byte \d+ (cannot be decoded|has 48x32 pixels)"
    with pytest.raises(InputError, match=place):
        list(loader)
    loader.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of this machine can be used")
def test_a_gpu_that_dali_cannot_use_is_no_samples_fault(shards):
    loader = build_loader(DataConfig(shards=shards, batch_size=2, backend="dali"), "val", device="cuda")
    with contextlib.closing(loader), pytest.raises(InputError, match=r"DALI \S+ cannot use the GPU .* driver"):
        next(iter(loader))
