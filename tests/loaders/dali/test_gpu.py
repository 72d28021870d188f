"""The DALI graph on a GPU against the same graph on the CPU; skipped where there is no GPU."""

import dataclasses

import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, build_loader
from tests.shard_factory import make_shard_set, spoil_images

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
pytest.importorskip("nvidia.dali")

DEVICE = "cuda:0"
AUGMENT = AugmentConfig(rotation=180, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.3)
ACCESS = ("random", "sequential")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("gpu")
    return {
        form: make_shard_set(
            root / form, {"train": 23}, image_size=96, image_format=form, components=("rgba", "worldp")
        )
        for form in ("jpeg", "png", "raw", "source")
    }


def load(config, device, **kwargs):
    loader = build_loader(config, "train", device=device, **kwargs)
    try:
        return list(loader)
    finally:
        loader.close()


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("augment", [AugmentConfig(), AUGMENT], ids=["plain", "augmented"])
@pytest.mark.parametrize(("form", "image_size"), [("jpeg", 96), ("jpeg", 64), ("png", 96), ("raw", 96), ("source", 96)])
def test_images_and_labels_are_those_of_the_cpu(sets, form, image_size, augment, access):
    config = DataConfig(
        shards=sets[form],
        batch_size=5,
        backend="dali",
        access=access,
        augment=augment,
        image_size=image_size,
    )
    on_gpu, on_cpu = (load(config, device, training=True) for device in (DEVICE, "cpu"))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        assert {tensor.device for tensor in vars(a).values() if tensor is not None} == {torch.device(DEVICE)}
        assert a.image.is_contiguous(memory_format=torch.channels_last)
        for name in ("index", "meta", "joints_2d", "joints_3d"):
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name)), name
        assert (a.image.cpu().float() - b.image.float()).abs().mean() < 2


@pytest.mark.parametrize("access", ACCESS)
def test_floats_are_those_of_the_cpu(sets, access):
    config = DataConfig(shards=sets["jpeg"], batch_size=5, backend="dali", access=access)
    for a, b in zip(load(config, DEVICE, dtype="float32"), load(config, "cpu", dtype="float32"), strict=True):
        assert a.image.is_contiguous()
        assert (a.image.cpu() - b.image).abs().mean() < 2 / 127.5


def test_world_positions_are_exact(sets):
    config = DataConfig(shards=sets["jpeg"], batch_size=5, backend="dali")
    on_gpu, on_cpu = (load(config, device, outputs=("worldp",)) for device in (DEVICE, "cpu"))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        assert torch.equal(a.worldp.cpu().to(torch.int32), b.worldp.to(torch.int32))


def test_a_batch_outlives_those_after_it(sets):
    config = DataConfig(shards=sets["jpeg"], batch_size=2, backend="dali", augment=AUGMENT)
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
    config = DataConfig(shards=shards, batch_size=4, backend="dali")
    with pytest.raises(InputError, match=r"000006.rgba.jpg at byte \d+ cannot be decoded"):
        load(config, DEVICE)
    found = load(dataclasses.replace(config, on_bad_sample="skip"), DEVICE)
    assert torch.cat([batch.index for batch in found]).tolist() == [i for i in range(12) if i != 5]
