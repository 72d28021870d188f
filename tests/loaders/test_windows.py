"""``data.window``: a sample is several frames of one recording, wherever they lie, in all that loaders promise."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import AugmentConfig, DataConfig, InputError, ShardSet, build_loader
from loaders.format.sample import sample_key
from loaders.windows import find_windows
from tests.shard_factory import make_shard_set, spoil_images

FRAMES, SUBJECTS = 30, 2
WAYS = {
    "dali": {"backend": "dali"},
    "torch": {"backend": "torch"},
    "labels": {},
}
AUGMENT = AugmentConfig(rotation=90, horizontal_flip=0.5, brightness=0.5, contrast=0.5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two subjects in turn, so that neighbors in a window are strangers in a shard, and in other shards."""
    root = tmp_path_factory.mktemp("windows") / "shards"
    counts = {"train": FRAMES, "val": 8}
    return make_shard_set(root, counts, subjects_per_split=SUBJECTS, components=("rgba", "depth", "rot"))


def load(shards, way, split="train", *, outputs=("image",), world_size=1, rank=0, **flags):
    """Return a loader; ``training`` among its flags."""
    training = flags.pop("training", False)
    config = DataConfig(shards=shards, **{"batch_size": 3, "window": 3, "stride": 4, **WAYS[way], **flags})
    outputs = () if way == "labels" else outputs
    return build_loader(
        config, split, outputs=outputs, training=training, rank=rank, world_size=world_size, device="cpu"
    )


def all_of(loader):
    with contextlib.closing(loader):
        return list(loader)


def windows_of(batches):
    return [tuple(window) for batch in batches for window in batch.index.tolist()]


@given(
    st.sets(st.tuples(st.integers(0, 2), st.integers(0, 1_000_012).filter(lambda x: x % 100 < 12)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_windows_are_those_whose_frames_are_all_there(frames, length, stride, random):
    listed = sorted(frames)
    random.shuffle(listed)
    keys = np.array([sample_key(f"male_00{subject}_a_a", "env_001", number) for subject, number in listed], np.bytes_)
    at = {frame: position for position, frame in enumerate(listed)}
    expected = []
    for subject, number in listed:
        wanted = [(subject, number - stride * back) for back in reversed(range(length))]
        if all(frame in at for frame in wanted):
            expected.append([at[frame] for frame in wanted])
    found = find_windows(keys, length, stride)
    assert found.shape == (len(expected), length)
    assert found.tolist() == expected


@pytest.mark.parametrize("way", WAYS)
def test_a_window_holds_its_frames_as_they_are_loaded_alone(shards, way):
    outputs = ("image", "depth", "rot")
    alone = {
        int(batch.index): batch
        for batch in all_of(load(shards, way, outputs=outputs, window=1, stride=1, batch_size=1))
    }
    batches = all_of(load(shards, way, outputs=outputs))
    for batch in batches:
        assert batch.joints_2d.shape == (len(batch), 3, 16, 2)
        assert batch.visible.shape == (len(batch), 3, 16)
        assert batch.meta.shape == (len(batch), 3, 4)
        subjects, _, numbers, _ = batch.meta.unbind(-1)
        assert (subjects == subjects[:, :1]).all()
        assert (numbers.diff() == 4).all()
        names = [name for name, tensor in vars(batch).items() if tensor is not None]
        assert ("image" in names) == ("depth" in names) == (way != "labels")
        for row, window in enumerate(batch.index.tolist()):
            for column, index in enumerate(window):
                for name in names:
                    mine, single = getattr(batch, name)[row, column], getattr(alone[index], name)[0]
                    torch.testing.assert_close(mine, single, rtol=0, atol=0, equal_nan=True)
    # of each subject's 15 frames, two numbers apart, the first four end no window
    assert len(windows_of(batches)) == FRAMES - SUBJECTS * 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_has_each_window_once(shards, way, world_size):
    found = [windows_of(all_of(load(shards, way, rank=rank, world_size=world_size))) for rank in range(world_size)]
    expected = find_windows(ShardSet(shards, "train").keys, 3, 4).tolist()
    assert sorted(window for windows in found for window in windows) == sorted(map(tuple, expected))


@pytest.mark.parametrize("way", WAYS)
def test_training_goes_on_with_another_number_of_processes(shards, way):
    """Each window once in an epoch, in the same steps on all ranks, augmented as without an interruption."""
    flags = {"training": True, "augment": AUGMENT, "batch_size": 2}
    whole = all_of(load(shards, way, **flags))
    assert len(set(windows_of(whole))) == len(windows_of(whole)) == 22
    ranks = [load(shards, way, rank=rank, world_size=2, **{**flags, "batch_size": 3}) for rank in range(2)]
    iterators = [iter(loader) for loader in ranks]
    first = [next(iterator) for _ in range(2) for iterator in iterators]
    states = [loader.state_dict() for loader in ranks]
    assert states[0] == states[1]
    assert states[0]["consumed"] == 12
    for loader in ranks:
        loader.close()
    resumed = load(shards, way, **flags)
    resumed.load_state_dict(states[0])
    rest = all_of(resumed)
    assert windows_of(first) + windows_of(rest) == windows_of(whole)
    poses = [torch.cat([batch.joints_3d for batch in batches]) for batches in (first + rest, whole)]
    assert torch.equal(*poses)


@pytest.mark.parametrize("way", WAYS)
def test_the_frames_of_a_window_are_augmented_alike(shards, way):
    """Every frame is turned, flipped and recolored as the last one is when it is loaded alone."""
    flags = {"training": True, "augment": AUGMENT}
    alone = {int(batch.index): batch for batch in all_of(load(shards, way, window=1, stride=1, batch_size=1, **flags))}
    plain = {int(batch.index): batch for batch in all_of(load(shards, way, window=1, stride=1, batch_size=1))}
    for batch in all_of(load(shards, way, **flags)):
        for row, window in enumerate(batch.index.tolist()):
            last = window[-1]
            assert torch.equal(batch.joints_3d[row, -1], alone[last].joints_3d[0])
            if batch.image is not None:
                assert torch.equal(batch.image[row, -1], alone[last].image[0])
            # x and y of all frames by the matrix of the last one; exchanged joints are told by their distances
            before, after = (one.double() for one in (plain[last].joints_3d[0], batch.joints_3d[row, -1]))
            flipped = not torch.allclose(before[:, 2], after[:, 2])
            for column, index in enumerate(window):
                frame = plain[index].joints_3d[0].double()
                moved = batch.joints_3d[row, column].double()
                assert flipped == (not torch.allclose(frame[:, 2], moved[:, 2]))
                if not flipped:
                    matrix = torch.linalg.lstsq(before[:, :2], after[:, :2]).solution
                    torch.testing.assert_close(frame[:, :2] @ matrix, moved[:, :2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ["dali", "torch"])
def test_windows_with_a_bad_frame_are_skipped(tmp_path, way):
    shards = make_shard_set(tmp_path / "shards", {"train": 24}, samples_per_shard=8)
    spoil_images(shards, "train", {7})
    flags = {"on_bad_sample": "skip", "window": 3, "stride": 2}
    seen = windows_of(all_of(load(shards, way, **flags)))
    assert seen == [(i - 4, i - 2, i) for i in range(4, 24) if i not in (7, 9, 11)]
    batches = all_of(load(shards, way, training=True, batch_size=5, **flags))
    assert [len(batch) for batch in batches] == [5] * 4
    assert set(windows_of(batches)) <= set(seen)
    with pytest.raises(InputError, match=r"000008\.rgba\.jpg .* cannot be decoded"):
        all_of(load(shards, way, **{**flags, "on_bad_sample": "fail"}))


def test_a_cached_batch_of_windows_is_one(shards):
    config = DataConfig(shards=shards, batch_size=3, window=3, stride=4, backend="torch")
    loader = build_loader(config, "train", training=True, cached_batch=True)
    batches = all_of(loader)
    assert len(batches) == 7
    assert all(batch.image.shape == (3, 3, 3, 64, 64) for batch in batches)


def test_another_window_is_another_order(shards):
    state = load(shards, "labels", training=True).state_dict()
    loader = load(shards, "labels", training=True, window=2)
    with contextlib.closing(loader), pytest.raises(InputError, match=r"windows of 3 frames, 4 apart.*data\.window"):
        loader.load_state_dict(state)


def test_what_cannot_be_is_said(shards):
    with pytest.raises(InputError, match=r"8 frames and no window of 9 frames, 2 apart: lower data\.window"):
        load(shards, "labels", "val", window=9, stride=2)
    with pytest.raises(InputError, match=r"has 22 samples, fewer than one batch of 23"):
        load(shards, "labels", batch_size=23, training=True)
    with pytest.raises(InputError, match=r"data\.stride is 2, and a sample has one frame"):
        DataConfig(shards=shards, stride=2)
    with pytest.raises(InputError, match=r"data\.window needs --data\.access random"):
        DataConfig(shards=shards, window=2, access="sequential")
