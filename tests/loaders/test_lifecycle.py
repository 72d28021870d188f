"""Loaders beside each other, closed, forked and spawned."""

import gc
import multiprocessing
import threading
from pathlib import Path

import pytest
import torch

from loaders import DataConfig, Loader, PoseBatch, ShardSet, build_loader
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


@pytest.mark.parametrize("way", WAYS)
def test_threads_read_and_make_batches(shards, way, monkeypatch):
    """The caller's thread reads nothing from the disk, and with DALI makes no labels."""
    loader, used = load(shards, way, "train", training=True), {}
    for owner, names in ((ShardSet, ("read", "read_ahead")), (Loader, ("_label_batch",))):
        for name in names:
            original = getattr(owner, name)

            def noted(*args, original=original, name=name, **kwargs):
                used.setdefault(name, set()).add(threading.current_thread().name.split("_")[0])
                return original(*args, **kwargs)

            monkeypatch.setattr(owner, name, noted)
    for _ in range(2):
        list(loader)
    loader.close()
    maker = "MainThread" if way == "torch" else "fetch"
    assert used["_label_batch"] == {maker}
    assert used.get("read_ahead", {"read"}) == {"read"}
    assert used.get("read", set()) <= {"read", maker}
    assert ("read_ahead" in used) == (way != "sequential")


@pytest.mark.parametrize("way", WAYS)
def test_another_iteration_ends_the_one_before(shards, way):
    loader = load(shards, way, "train", training=True)
    first = iter(loader)
    expected = [next(first)]
    again = list(loader)
    assert len(again) == 5, "of six batches one was delivered"
    assert list(first) == []
    assert loader.epoch == 1
    assert torch.equal(torch.sort(torch.cat([batch.index for batch in expected + again])).values, torch.arange(24))
    loader.close()


@pytest.mark.parametrize("way", WAYS)
def test_closing_ends_the_threads_of_an_iterator_that_an_error_holds(shards, way):
    loader = load(shards, way, "train", training=True)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    loader.close()
    assert not {thread.name.split("_")[0] for thread in threading.enumerate()} & {"fetch", "read", "decode"}
    assert list(iterator) == []
    assert loader.state_dict() == state


def test_a_batch_is_complete_when_it_is_handed_over(shards, monkeypatch):
    """On CUDA the fetching thread's stream is waited for there, and the caller's is made known to torch's allocator."""

    class Stream:
        def synchronize(self):
            done.append(threading.current_thread().name.split("_")[0])

    done, set_streams, recorded = [], [], []
    monkeypatch.setattr(torch.cuda, "set_stream", set_streams.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the caller's")
    monkeypatch.setattr(PoseBatch, "record_stream", lambda self, stream: recorded.append((stream, len(done))))
    loader = load(shards, "torch", "train", training=True)
    loader._stream = stream = Stream()
    loader.fetches_ahead = True
    assert len(list(loader)) == 6
    assert set_streams == [stream]
    assert done == ["fetch"] * 6
    assert [stream for stream, _ in recorded] == ["the caller's"] * 6
    assert all(waited > number for number, (_, waited) in enumerate(recorded))
    loader.close()


def test_cuda_without_an_index_is_the_current_device(shards, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for device, expected in (("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        assert load(shards, "dali", "train", device=device).device == torch.device(expected)


def test_blocks_of_labels_begin_small(shards):
    loader = build_loader(DataConfig(shards=shards, batch_size=1), "train", training=True, outputs=())
    plan = [torch.tensor([index]).numpy() for index in range(24)]
    assert [len(block) for block in loader._load(plan)] == [1, 2, 4, 8, 9]
    loader.close()


def test_an_iterator_left_behind_does_not_keep_the_process_alive(shards):
    before = threading.active_count()
    loader = load(shards, "torch", "train")
    next(iter(loader))
    loader.close()
    assert threading.active_count() == before
