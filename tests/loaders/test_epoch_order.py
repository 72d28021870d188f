import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.epoch_order import counter_hash, epoch_order, rank_batches

counts = st.sampled_from([1, 2, 3, 5, 7, 16, 31, 64, 97, 100, 257])
batch_sizes = st.integers(1, 9)
world_sizes = st.integers(1, 8)


@given(st.integers(0, 2**40), st.integers(0, 1000), counts)
def test_an_epoch_is_a_permutation_and_a_pure_function(seed, epoch, samples):
    order = epoch_order(seed, epoch, samples)
    np.testing.assert_array_equal(np.sort(order), np.arange(samples))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, samples))


def test_the_order_never_changes():
    """A resumed run depends on these numbers: they were written down when the format was made."""
    assert epoch_order(0, 0, 8).tolist() == [0, 1, 6, 3, 5, 4, 2, 7]
    assert epoch_order(1, 2, 8).tolist() == [7, 5, 6, 1, 4, 3, 0, 2]


def test_seeds_and_epochs_give_unrelated_orders():
    orders = [epoch_order(seed, epoch, 1000) for seed in range(4) for epoch in range(4)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.abs(np.corrcoef(a, b)[0, 1]) < 0.15


def test_hashed_numbers_are_uniform():
    uniform = counter_hash(3, 1, np.arange(100_000)) / 2.0**64
    histogram, _ = np.histogram(uniform, 50, (0, 1))
    assert abs(uniform.mean() - 0.5) < 0.005
    assert ((histogram > 1800) & (histogram < 2200)).all()


@given(counts, batch_sizes, world_sizes)
def test_evaluation_has_every_sample_once(samples, batch_size, world_size):
    ranks = [
        rank_batches(np.arange(samples), 0, batch_size, rank=r, world_size=world_size, drop_last=False)
        for r in range(world_size)
    ]
    seen = np.concatenate([np.concatenate(batches) for batches in ranks if batches])
    np.testing.assert_array_equal(np.sort(seen), np.arange(samples))
    assert all(0 < len(batch) <= batch_size for batches in ranks for batch in batches)


@given(counts, batch_sizes, world_sizes)
def test_training_ranks_make_equal_steps_and_share_nothing(samples, batch_size, world_size):
    order = epoch_order(0, 0, samples)
    ranks = [
        rank_batches(order, 0, batch_size, rank=r, world_size=world_size, drop_last=True) for r in range(world_size)
    ]
    steps = samples // (batch_size * world_size)
    assert [len(batches) for batches in ranks] == [steps] * world_size
    assert all(len(batch) == batch_size for batches in ranks for batch in batches)
    for k in range(steps):
        whole = np.concatenate([batches[k] for batches in ranks])
        np.testing.assert_array_equal(whole, order[k * batch_size * world_size :][: batch_size * world_size])


@given(counts, batch_sizes, world_sizes, world_sizes, st.integers(0, 20))
def test_another_world_size_goes_on_at_the_same_place(samples, batch_size, before, after, steps):
    order = epoch_order(0, 0, samples)
    consumed = min(steps, samples // (batch_size * before)) * batch_size * before
    ranks = [rank_batches(order, consumed, batch_size, rank=r, world_size=after, drop_last=True) for r in range(after)]
    resumed = [index for batches in zip(*ranks, strict=True) for batch in batches for index in batch]
    assert resumed == order[consumed : consumed + len(resumed)].tolist()
    assert samples - consumed - len(resumed) < batch_size * after
