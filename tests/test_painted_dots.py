"""A dot painted on a joint stays under its label through synthesize, shard and load, moved or not, on both backends."""

import numpy as np
import pytest

from loaders import AugmentConfig, DataConfig, build_loader
from models.xr_egopose import SKELETON
from tools.shard import main as shard
from tools.synthesis.writer import dot_colors
from tools.synthesize import main as synthesize

SUBJECTS = ("female_001_a_a", "male_009_a_a")


@pytest.fixture(scope="module")
def shard_sets(tmp_path_factory):
    """The same frames with and without dots: what differs is dot."""
    root = tmp_path_factory.mktemp("dots")
    sets = {}
    for name, dots in (("dotted", ["--dots"]), ("plain", [])):
        dataset = ["--output", str(root / name), "--frames-per-subject", "6", "--workers", "1"]
        assert synthesize([*dataset, "--subjects", *SUBJECTS, "--modalities", "rgba", "json", *dots]) == 0
        sets[name] = root / f"{name}-shards"
        assert shard(["--root", str(root / name), "--output", str(sets[name]), "--components", "rgba"]) == 0
    return sets


def load(shards, backend, augment, image_size):
    config = DataConfig(shards=shards, backend=backend, augment=augment, image_size=image_size, batch_size=12)
    loader = build_loader(config, "train", training=True)
    (batch,) = list(loader)
    loader.close()
    return batch.image.permute(0, 2, 3, 1).numpy().astype(np.float64), batch.joints_2d.numpy(), batch.joints_3d.numpy()


@pytest.mark.parametrize("backend", ["dali", "torch"])
@pytest.mark.parametrize("image_size", [None, 256])
@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(rotation=180), AugmentConfig(horizontal_flip=1)])
def test_dots_stay_under_their_joints(shard_sets, backend, image_size, augment):
    dotted, joints, _ = load(shard_sets["dotted"], backend, augment, image_size)
    plain, same_joints, _ = load(shard_sets["plain"], backend, augment, image_size)
    np.testing.assert_array_equal(joints, same_joints)
    side = dotted.shape[1]
    reach = round(side * 12 / 800)
    # of a mirrored image, the dot of the left hand is at the right one's label
    colors = (
        dot_colors().astype(float)[list(SKELETON.flip_indices)]
        if augment.horizontal_flip
        else dot_colors().astype(float)
    )
    offsets = []
    for image, background, labels in zip(dotted, plain, joints, strict=True):
        for j, (u, v) in enumerate(labels):
            alone = np.sort(np.linalg.norm(labels - labels[j], axis=1))[1] > 2.5 * reach
            x, y = round(float(u)), round(float(v))
            if not alone or min(x, y) < 2 * reach or max(x, y) >= side - 2 * reach:
                continue
            window = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
            # where a rotation brings in what the stored square does not hold, it is black
            if background[window].max(axis=-1).min() < 4:
                continue
            towards = colors[j] - background[window]
            cover = ((image[window] - background[window]) * towards).sum(-1) / np.square(towards).sum(-1).clip(1)
            cover = np.where(cover > 0.3, cover.clip(0, 1), 0)
            ys, xs = np.indices(cover.shape) - reach
            assert cover.sum() > 4, "no dot of this joint's color here"
            offsets.append([(xs * cover).sum() / cover.sum() + x - u, (ys * cover).sum() / cover.sum() + y - v])
    assert len(offsets) > 50
    assert np.abs(offsets).max() < 0.5
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.1
