"""What loaders say their threads are busy with."""

import time

import pytest

from loaders import DataConfig, build_loader
from tests.loaders.test_faults import WAYS
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

PAUSE = 0.02
"""Longer than anything that these loaders do with a batch (seconds)."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return {
        image_format: make_shard_set(
            tmp_path_factory.mktemp("times") / "shards", {"train": 16}, image_size=64, image_format=image_format
        )
        for image_format in ("jpeg", "raw")
    }


def slow_down(monkeypatch, owner, name):
    real = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(PAUSE)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)


def load(folder, way, **more):
    """Return the work of one epoch, and the loader's crews."""
    config = DataConfig(shards=folder, batch_size=4, threads=2, **WAYS[way])
    loader = build_loader(config, "train", training=True, **more)
    began = time.perf_counter()
    assert len(list(loader)) == 4
    seconds = time.perf_counter() - began
    loader.close()
    return loader.stage_times.read(), loader.stage_times.crews, seconds


def test_each_way_names_its_stages_and_no_thread_works_longer_than_it_lives(shards): ...
