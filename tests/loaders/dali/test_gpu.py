"""The DALI graph on a GPU against the same graph on the CPU; skipped where there is no GPU."""

import dataclasses
import sys

import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, ShardSet, build_loader
from tests.loaders.blobs import check_blobs
from tests.shard_factory import make_shard_set, spoil_images

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
pytest.importorskip("nvidia.dali")

DEVICE = "cuda:0"
AUGMENT = AugmentConfig(rotation=180, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.3)
ACCESS = ("random", "sequential")
MEAN, FAR, SHARE = 0.6, 4, 0.01
"""Bounds: mean difference (gray levels); share of the values that differ by more than FAR (gray levels)."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("gpu")
    return {
        form: make_shard_set(
            root / form,
            {"train": 23},
            image_size=96,
            image_format=form,
            crop="full" if form == "source" else "square",
            components=("rgba", "worldp", "depth", "objectId", "rot"),
        )
        for form in ("jpeg", "png", "raw", "source")
    }


def load(config, device, **kwargs):
    loader = build_loader(config, "train", device=device, **kwargs)
    try:
        return list(loader)
    finally:
        loader.close()


def data(shards, **flags):
    """Return how to load; few threads, since each sets memory aside when a loader starts."""
    return DataConfig(**{"shards": shards, "backend": "dali", "threads": 2, "decode_on": "gpu", **flags})


def difference(a, b, *, scale=1.0):
    """Return the mean difference of images (gray levels), and the share of the values that are far apart."""
    apart = (a.cpu().float() - b.cpu().float()).abs() * scale
    return apart.mean().item(), (apart > FAR).float().mean().item()


def check_close(a, b, **scale):
    mean, far = difference(a, b, **scale)
    sys.stdout.write(f"mean difference {mean:.3f} gray levels, {far:.4%} far\n")
    assert mean < MEAN
    assert far < SHARE


def test_the_bounds_see_half_a_pixel(sets):
    (batch, *_) = load(DataConfig(shards=sets["jpeg"], batch_size=5), "cpu")
    image = batch.image.float()
    for axis in (2, 3):
        mean, far = difference((image + image.roll(1, axis)) / 2, image)
        assert mean > MEAN
        assert far > SHARE


PLAIN = AugmentConfig()
CASES = {
    "JPEG": ("jpeg", PLAIN, {"hw_decoder_load": 0.0}),
    "JPEG by the engine": ("jpeg", PLAIN, {"hw_decoder_load": 1.0}),
    "JPEG by the CPU": ("jpeg", PLAIN, {"decode_on": "cpu"}),
    "JPEG by the CPU, augmented": ("jpeg", AUGMENT, {"decode_on": "cpu"}),
    "JPEG, augmented": ("jpeg", AUGMENT, {}),
    "JPEG, resized": ("jpeg", PLAIN, {"image_size": 64}),
    "JPEG, resized, augmented": ("jpeg", AUGMENT, {"image_size": 64}),
    "JPEG, sequential, augmented": ("jpeg", AUGMENT, {"access": "sequential"}),
    "PNG": ("png", PLAIN, {}),
    "PNG, augmented": ("png", AUGMENT, {}),
    "raw": ("raw", PLAIN, {}),
    "raw, augmented": ("raw", AUGMENT, {}),
    "source, augmented": ("source", AUGMENT, {}),
    "source, sequential": ("source", PLAIN, {"access": "sequential"}),
}


@pytest.mark.parametrize("case", CASES)
def test_images_and_labels_are_those_of_the_cpu(sets, case):
    form, augment, flags = CASES[case]
    config = data(sets[form], batch_size=5, augment=augment, **{"image_size": 96, **flags})
    on_gpu, on_cpu = (load(config, device, training=True) for device in (DEVICE, "cpu"))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        assert {tensor.device for tensor in vars(a).values() if tensor is not None} == {torch.device(DEVICE)}
        assert a.image.is_contiguous(memory_format=torch.channels_last)
        for name in ("index", "meta", "joints_2d", "joints_3d"):
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name)), name
        if (form in {"png", "raw"} or flags.get("decode_on") == "cpu") and not augment.moves:
            assert torch.equal(a.image.cpu(), b.image)
        check_close(a.image, b.image)


@pytest.mark.parametrize("access", ACCESS)
def test_floats_are_those_of_the_cpu(sets, access):
    config = data(sets["jpeg"], batch_size=5, access=access)
    for a, b in zip(load(config, DEVICE, dtype="float32"), load(config, "cpu", dtype="float32"), strict=True):
        assert a.image.is_contiguous()
        check_close(a.image, b.image, scale=127.5)


@pytest.mark.parametrize(("form", "backend"), [("jpeg", "dali"), ("source", "dali"), ("jpeg", "torch")])
def test_blobs_stay_under_their_joints(sets, form, backend):
    turned = AugmentConfig(rotation=180, horizontal_flip=0.5)
    config = data(sets[form], batch_size=8, backend=backend, augment=turned, image_size=96)
    assert check_blobs(load(config, DEVICE, training=True)) > 10


@pytest.mark.parametrize(
    ("form", "image_size", "augment"),
    [
        ("jpeg", 96, PLAIN),
        ("jpeg", 96, AUGMENT),
        ("source", 96, PLAIN),
        ("source", 96, AUGMENT),
        ("source", None, PLAIN),
        ("jpeg", 64, PLAIN),
    ],
)
@pytest.mark.parametrize("access", ACCESS)
def test_values_that_are_no_colors_are_exact(sets, form, image_size, augment, access):
    exact = {"worldp": torch.uint16, "depth": torch.uint16, "object_id": torch.uint8}
    config = data(sets[form], batch_size=5, image_size=image_size, augment=augment, access=access)
    on_gpu, on_cpu = (load(config, device, training=True, outputs=tuple(exact)) for device in (DEVICE, "cpu"))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        for name, dtype in exact.items():
            assert getattr(a, name).dtype == dtype
            assert getattr(a, name).device == torch.device(DEVICE)
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name)), name


@pytest.mark.parametrize("backend", ["dali", "torch"])
def test_rotations_are_those_of_the_cpu(sets, backend):
    config = data(sets["jpeg"], batch_size=5, backend=backend)
    for a, b in zip(*(load(config, device, outputs=("image", "rot")) for device in (DEVICE, "cpu")), strict=True):
        assert a.rot.device == torch.device(DEVICE)
        torch.testing.assert_close(a.rot.cpu(), b.rot, atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("flags", [{"hw_decoder_load": 0.0}, {"hw_decoder_load": 1.0}, {"decode_on": "cpu"}])
def test_an_image_cut_in_its_middle_costs_no_other(tmp_path, flags):
    """The GPU's decoder fills up what is missing; the CPU's refuses it, as it does for a CPU."""
    shards = make_shard_set(tmp_path / "shards", {"train": 12}, image_size=96)
    shard_set = ShardSet(shards, "train")
    offset, size = shard_set.span(5, "rgba.jpg")
    with (shards / "train" / shard_set.shards[1].name).open("r+b") as stream:
        stream.seek(offset + size // 2)
        stream.write(bytes(size - size // 2))
    config = data(shards, batch_size=4, on_bad_sample="skip", **flags)
    seen = torch.cat([batch.index.cpu() for batch in load(config, DEVICE)]).tolist()
    others = [index for index in range(12) if index != 5]
    assert seen == (others if config.decode_on == "cpu" else list(range(12)))


def test_a_batch_outlives_those_after_it(sets):
    config = data(sets["jpeg"], batch_size=2, augment=AUGMENT)
    held = load(config, DEVICE, training=True)
    again = [batch.image.clone() for batch in _one_by_one(config)]
    assert all(torch.equal(batch.image, image) for batch, image in zip(held, again, strict=True))


def _one_by_one(config):
    loader = build_loader(config, "train", device=DEVICE, training=True)
    yield from loader
    loader.close()


def test_a_bad_image_is_named_or_skipped(tmp_path):
    shards = make_shard_set(tmp_path / "shards", {"train": 12})
    spoil_images(shards, "train", {5})
    config = data(shards, batch_size=4)
    with pytest.raises(InputError, match=r"000006.rgba.jpg at byte \d+ cannot be decoded"):
        load(config, DEVICE)
    found = load(dataclasses.replace(config, on_bad_sample="skip"), DEVICE)
    assert torch.cat([batch.index for batch in found]).tolist() == [i for i in range(12) if i != 5]
