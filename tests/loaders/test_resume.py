"""Order, ranks, resuming and augmentation together: what a run consumes, whatever interrupts it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import AugmentConfig, DataConfig, build_loader
from tests.shard_factory import make_shard_set

COUNTS = (1, 2, 3, 5, 7, 13, 31, 48, 97)
AUGMENT = AugmentConfig(rotation=180, horizontal_flip=0.5)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Shard sets without images, by their number of samples."""
    root = tmp_path_factory.mktemp("sets")
    return {n: make_shard_set(root / str(n), {"train": n}, components=(), samples_per_shard=5) for n in COUNTS}


class Run:
    """The ranks of a training run, in lock step."""

    def __init__(self, shards, batch_size, world_size, seed):
        config = DataConfig(shards=shards, batch_size=batch_size, augment=AUGMENT, seed=seed)
        self.loaders = [
            build_loader(config, "train", rank=rank, world_size=world_size, training=True, outputs=())
            for rank in range(world_size)
        ]
        self.left = []

    def state(self):
        states = [loader.state_dict() for loader in self.loaders]
        assert all(state == states[0] for state in states)
        return states[0]

    def resume(self, state):
        for loader in self.loaders:
            loader.load_state_dict(state)
        return self

    def epoch(self, steps=None):
        """Return (sample, moved joints) of the rest of an epoch, or of so many steps, in global order."""
        iterators = [iter(loader) for loader in self.loaders]
        found = []
        while steps is None or len(found) < steps:
            batches = [next(iterator, None) for iterator in iterators]
            if batches[0] is None:
                assert batches == [None] * len(batches), "a rank makes more steps than another"
                break
            assert len({len(batch) for batch in batches}) == 1
            found.append(
                [(i, j.tobytes()) for b in batches for i, j in zip(b.index.tolist(), b.joints_3d.numpy(), strict=True)]
            )
        return [sample for step in found for sample in step]


@st.composite
def runs(draw):
    count = draw(st.sampled_from(COUNTS))
    world_size = draw(st.integers(1, min(8, count)))
    batch_size = draw(st.integers(1, max(1, min(9, count // world_size))))
    return count, batch_size, world_size, draw(st.integers(0, 3))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(runs(), st.integers(0, 40), st.integers(0, 2), st.data())
def test_an_interrupted_run_consumes_what_an_uninterrupted_one_does(sets, run, step, epoch, data):
    count, batch_size, world_size, seed = run
    whole = Run(sets[count], batch_size, world_size, seed)
    expected = [whole.epoch() for _ in range(epoch + 2)]
    for samples in expected:
        seen = [index for index, _ in samples]
        assert len(set(seen)) == len(seen) == count // (batch_size * world_size) * batch_size * world_size

    first = Run(sets[count], batch_size, world_size, seed)
    for _ in range(epoch):
        first.epoch()
    step = min(step, count // (batch_size * world_size))
    consumed = first.epoch(step)
    # any number of ranks that splits the global batch as well gives the same steps, also in the epochs to come
    ways = [n for n in range(1, 9) if batch_size * world_size % n == 0]
    other = data.draw(st.sampled_from(ways))
    second = Run(sets[count], batch_size * world_size // other, other, seed).resume(first.state())
    assert consumed + second.epoch() == expected[epoch]
    if first.loaders[0].epoch == epoch:
        assert second.epoch() == expected[epoch + 1]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(runs(), runs(), st.integers(0, 10))
def test_another_global_batch_goes_on_at_the_same_place(sets, before, after, step):
    count, batch_size, world_size, seed = before
    _, other_size, other_world, _ = after
    if other_size * other_world > count:
        return
    first = Run(sets[count], batch_size, world_size, seed)
    step = min(step, count // (batch_size * world_size))
    consumed = first.epoch(step)
    resumed = Run(sets[count], other_size, other_world, seed).resume(first.state()).epoch()
    order = Run(sets[count], 1, 1, seed).epoch()
    if step < count // (batch_size * world_size) or step == 0:
        assert (consumed + resumed) == order[: len(consumed) + len(resumed)]
        assert count - len(consumed) - len(resumed) < other_size * other_world


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(COUNTS), st.integers(1, 9), st.integers(1, 8))
def test_evaluation_sees_each_sample_once(sets, count, batch_size, world_size):
    config = DataConfig(shards=sets[count], batch_size=batch_size)
    seen = []
    for rank in range(world_size):
        loader = build_loader(config, "train", rank=rank, world_size=world_size, outputs=())
        batches = list(loader)
        assert len(batches) == len(loader)
        seen += [index for batch in batches for index in batch.index.tolist()]
    np.testing.assert_array_equal(np.sort(seen), np.arange(count))
