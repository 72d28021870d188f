"""The clock stands while it is paused; the first evaluation at or below an error counts."""

import pytest

from benchmarks.curves.curve import Clock, Curve, Point


def curve(*errors):
    points = [Point(10.0 * place, 160 * place, error) for place, error in enumerate(errors)]
    return Curve(points, points[-1])


@pytest.mark.parametrize(
    ("error", "place"),
    [(25, 0), (15, 1), (14.9, 3), (10, 3), (9.9, None)],
    ids=["before the first step", "just reached", "a rise in between", "at the end", "never"],
)
def test_the_first_crossing(error, place):
    found = curve(20, 15, 16, 10)
    assert found.reached(error) == (None if place is None else found.points[place])


def test_the_clock_stands_while_it_is_paused():
    now = [100.0]
    clock = Clock(97.0, lambda: now[0])
    assert clock.seconds == 3
    now[0] += 4
    with clock.paused() as seconds:
        now[0] += 50
    assert seconds == clock.seconds == 7
    with pytest.raises(ValueError, match="lost"), clock.paused():
        now[0] += 50
        raise ValueError("lost")
    now[0] += 1
    assert clock.seconds == 8
