"""A generator that a thread runs ahead."""

import threading
import time

import pytest

from loaders.system.threads import run_ahead


def numbers(made, closed, end=10**9, error=None):
    try:
        for number in range(end):
            made.append((number, threading.current_thread()))
            yield number
        if error:
            raise error
    finally:
        closed.append(True)


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("depth", [1, 3])
def test_it_goes_so_far_ahead_and_no_farther(depth):
    made, closed = [], []
    ahead = run_ahead(numbers(made, closed), depth, "ahead")
    assert next(ahead) == 0
    wait_until(lambda: len(made) == 1 + depth)
    time.sleep(0.05)
    assert len(made) == 1 + depth
    assert {thread is threading.main_thread() for _, thread in made} == {False}
    assert [next(ahead) for _ in range(4)] == [1, 2, 3, 4]
    ahead.close()
    assert closed == [True]
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_an_error_comes_in_its_turn(depth):
    closed = []
    ahead = run_ahead(numbers([], closed, 5, ValueError("at the end")), depth, "ahead")
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="at the end"):
        next(ahead)
    assert closed == [True]
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_all_of_it_comes_in_order():
    closed = []
    assert list(run_ahead(numbers([], closed, 100), 2, "ahead")) == list(range(100))
    assert closed == [True]


@pytest.mark.parametrize("made_first", [True, False])
def test_it_tells_whether_an_item_was_ready(made_first):
    """Of each item, and not of the end."""
    told, made, may_go_on = [], [], threading.Event()

    def items():
        for number in range(3):
            if not made_first:
                may_go_on.wait()
                may_go_on.clear()
            made.append(number)
            yield number

    ahead = run_ahead(items(), 1, "ahead", told.append)
    if made_first:
        assert next(ahead) == 0
        for number in (1, 2):
            wait_until(lambda: len(made) > number)  # noqa: B023
            time.sleep(0.3)
            assert next(ahead) == number
        assert told[1:] == [True, True]
    else:
        for number in range(3):
            threading.Timer(0.1, may_go_on.set).start()
            assert next(ahead) == number
        assert told == [False, False, False]
    assert list(ahead) == []
    assert len(told) == 3
