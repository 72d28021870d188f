"""Which frames are shown."""

from collections import Counter

import numpy as np
import pytest

from tools.browsing.choice import choose


def recordings(*lengths):
    """Frames of (subject, action) pairs of these lengths, in a random order as shards hold them."""
    rows = [(subject, 0, frame + 1, action) for subject, action, length in lengths for frame in range(length)]
    return np.random.default_rng(0).permutation(np.array(rows, np.int32))


def test_a_spread_shows_every_action_of_every_recording_before_any_twice():
    meta = recordings((0, 0, 50), (1, 0, 40), (0, 1, 3), (2, 2, 60), (1, 2, 5))
    five = meta[choose("spread", meta, [], 5)]
    assert {(subject, action) for subject, _, _, action in five.tolist()} == {(0, 0), (1, 0), (0, 1), (2, 2), (1, 2)}
    three = meta[choose("spread", meta, [], 3)]
    assert set(three[:, 3]) == {0, 1, 2}
    assert len(set(three[:, 0])) == 2  # not the first subject alone
    twenty = meta[choose("spread", meta, [], 20)]
    # the third has but three frames; what it lacks, the others show
    shares = Counter((subject, action) for subject, _, _, action in twenty.tolist())
    assert shares.pop((0, 1)) == 3
    assert sorted(shares.values()) == [4, 4, 4, 5]


def test_a_spread_is_even_in_time_and_sorted_by_recording():
    meta = recordings((0, 0, 100), (1, 0, 100))
    shown = meta[choose("spread", meta, [], 10)]
    assert shown[:, 0].tolist() == [0] * 5 + [1] * 5
    assert shown[:, 2].tolist() == [11, 31, 51, 71, 91] * 2


@pytest.mark.parametrize("count", [1, 7, 30, 99])
def test_a_spread_shows_no_frame_twice(count):
    meta = recordings((0, 0, 11), (1, 1, 2), (2, 0, 17))
    shown = choose("spread", meta, [], count)
    assert len(set(shown)) == len(shown) == min(count, 30)


def test_orders_by_error():
    meta = recordings((0, 0, 5))
    errors = [np.array([5.0, 1, 9, 3, 3]), np.array([5.0, 8, 7, 3, 0])]
    assert choose("worst", meta, errors, 2) == [2, 0]
    assert choose("best", meta, errors, 3) == [1, 3, 4]
    assert choose("difference", meta, errors, 3) == [1, 4, 2]
    assert choose("worst", meta, errors[:1], 9) == [2, 0, 3, 4, 1]
