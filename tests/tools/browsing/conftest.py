"""A shard set, two networks of different image sizes, their sheet, and what evaluate says of the same frames."""

import pytest

from tests.checkpoint_factory import make_checkpoint
from tests.shard_factory import make_shard_set
from tests.tools.browsing.sheets import FRAMES, browse, rows_of


@pytest.fixture(scope="package")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("browse")
    return make_shard_set(root, {"train": 2, "val": FRAMES}, image_size=96, subjects_per_split=2)


@pytest.fixture(scope="package")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return [make_checkpoint(root / "a.pt", image_size=64), make_checkpoint(root / "b.pt", image_size=128, seed=1)]


@pytest.fixture(scope="package")
def sheet(tmp_path_factory, shards, checkpoints):
    """All frames, with two checkpoints."""
    path = tmp_path_factory.mktemp("sheet") / "sheet.html"
    assert browse(shards, path, "--checkpoint", *checkpoints) == 0
    return path


@pytest.fixture(scope="package")
def rows(tmp_path_factory, shards, checkpoints):
    """What evaluate says of each frame: key -> row, of each checkpoint."""
    return [rows_of(tmp_path_factory.mktemp("report"), shards, checkpoint) for checkpoint in checkpoints]
