"""Loaders beside each other, closed, forked and spawned."""

import gc
import multiprocessing
import threading
from pathlib import Path

import pytest
import torch

from loaders import DataConfig, build_loader
from tests.loaders.test_faults import WAYS
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("life") / "shards", {"train": 24, "val": 9}, image_size=96)


def load(shards, way, split, **kwargs):
    return build_loader(DataConfig(shards=shards, batch_size=4, **WAYS[way]), split, **kwargs)


def first_image(shards, way):
    """Return the sum of the first image; run in other processes too."""
    loader = load(shards, way, "val")
    batch = next(iter(loader))
    loader.close()
    return int(batch.image[0].sum())


def held():
    """Return what a process holds: threads of the system, open files, mapped tars."""
    gc.collect()
    process = Path("/proc/self")
    tars = sum(".tar" in line for line in (process / "maps").read_text().splitlines())
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())), tars


def repeatedly(shards, way, queue):
    """Open, use and close loaders, some in the middle of an epoch; report what is held after each."""
    for steps in range(6):
        loader = load(shards, way, "train", training=True)
        iterator = iter(loader)
        for _ in range(steps):
            next(iterator)
        del iterator
        loader.close()
        del loader
        queue.put(held())
    queue.put(None)


@pytest.mark.parametrize("way", WAYS)
def test_closing_frees_threads_files_and_mappings(shards, way):
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=repeatedly, args=(shards, way, queue))
    process.start()
    found = list(iter(queue.get, None))
    process.join()
    assert [tars for _, _, tars in found] == [0] * 6
    # the first uses start what libraries keep for good
    assert found[3][:2] == found[4][:2] == found[5][:2]


@pytest.mark.parametrize("way", WAYS)
def test_two_loaders_live_side_by_side(shards, way):
    expected = [list(load(shards, way, "train")), list(load(shards, way, "val"))]
    train, val = load(shards, way, "train"), load(shards, way, "val")
    iterator = iter(train)
    found = [next(iterator), next(iterator)]
    found_val = list(val)
    found += list(iterator)
    val.close()
    again = list(train)
    for a, b, c in zip(found, expected[0], again, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(c.image, b.image)
    for a, b in zip(found_val, expected[1], strict=True):
        assert torch.equal(a.image, b.image)
    train.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_started_while_loading_load_too(shards, way, method):
    """Each child makes loaders of its own; the parent's goes on."""
    expected = first_image(shards, way)
    loader = load(shards, way, "train")
    iterator = iter(loader)
    seen = [next(iterator)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap_async(first_image, [(shards, way)] * 2).get(timeout=120)
        seen += list(iterator)
    assert found == [expected] * 2
    assert torch.cat([batch.index for batch in seen]).tolist() == list(range(24))
    loader.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_outlives_its_loader(shards, way):
    loader = load(shards, way, "train")
    iterator = iter(loader)
    batch = next(iterator)
    copy = batch.image.clone(), batch.joints_3d.clone()
    list(iterator)
    loader.close()
    assert torch.equal(batch.image, copy[0])
    assert torch.equal(batch.joints_3d, copy[1])


def test_an_iterator_left_behind_does_not_keep_the_process_alive(shards):
    before = threading.active_count()
    loader = load(shards, "torch", "train")
    next(iter(loader))
    loader.close()
    assert threading.active_count() == before
