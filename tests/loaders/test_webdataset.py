"""A shard set in a pipeline of webdataset's own."""

import numpy as np
import pytest

import loaders
from loaders import DataConfig, InputError, build_loader
from tests.shard_factory import make_shard_set, spoil_images

wds = pytest.importorskip("webdataset")


def decoded(root, split):
    """Return the samples of a split as webdataset reads them, in the order of its shards."""
    urls = sorted(map(str, (root / split).glob("*.tar")))
    return list(wds.WebDataset(urls, shardshuffle=False).map(loaders.decode_sample))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
@pytest.mark.parametrize("components", [("rgba", "worldp"), ("rgba",)])
def test_decoded_samples_are_those_of_our_loader(tmp_path, image_format, components):
    root = make_shard_set(tmp_path / "set", {"val": 9}, image_size=64, image_format=image_format, components=components)
    outputs = ["image", "worldp"][: len(components)]
    loader = build_loader(DataConfig(shards=root, batch_size=9, backend="torch"), "val", outputs=outputs)
    (batch,) = loader
    found = decoded(root, "val")
    camera, side = loader.shard_set.camera, loader.shard_set.window[2]
    left, top = (camera.width - side) // 2, (camera.height - side) // 2
    assert [sample["__key__"] for sample in found] == [loader.shard_set.key(index) for index in range(9)]
    for row, sample in enumerate(found):
        assert set(sample) == {"__key__", *outputs, "joints_2d", "joints_3d", "meta"}
        for name in outputs:
            square = sample[name][top : top + side, left : left + side]
            np.testing.assert_array_equal(square, getattr(batch, name)[row].permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(sample["joints_3d"], batch.joints_3d[row].numpy())
        np.testing.assert_allclose(sample["joints_2d"] - [left, top], batch.joints_2d[row].numpy(), atol=1e-4)
        np.testing.assert_array_equal(sample["meta"], batch.meta[row].numpy())
        assert sample["joints_3d"].dtype == sample["joints_2d"].dtype == np.float32
    loader.close()


def test_what_cannot_be_decoded_is_named(tmp_path):
    root = make_shard_set(tmp_path / "set", {"val": 4})
    spoil_images(root, "val", {2})
    with pytest.raises(InputError, match=r"-000003\.rgba\.jpg cannot be decoded \(.*: copy its shard again"):
        decoded(root, "val")
    with pytest.raises(InputError, match=r"a-1 has no pose\.npy: give the shards of tools\.shard"):
        loaders.decode_sample({"__key__": "a-1", "rgba.jpg": b""})
    with pytest.raises(InputError, match=r"a-1\.pose\.npy cannot be decoded"):
        loaders.decode_sample({"__key__": "a-1", "pose.npy": b"\x93NUMPY"})
