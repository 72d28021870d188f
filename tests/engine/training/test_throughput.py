"""How fast training is said to be, where a device works behind the host."""

import time

import pytest

from engine.training.throughput import Stopwatch


class Device:
    """Clock and queue of a device that takes what it is given in order, and which the host need not wait for."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self._free_at = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def queue(self, seconds):
        self._free_at = max(self._free_at, self.now) + seconds

    def wait(self):
        self.now = max(self.now, self._free_at)


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def train(device, stopwatch, steps):
    """Queue steps of 10 images, each 0.2 s of the device's time and 0.01 s of the host's."""
    for _ in range(steps):
        device.queue(0.2)
        device.now += 0.01
        stopwatch.count(10)


def test_what_is_queued_before_a_pause_or_a_reading_counts(device):
    """50 images/s; those that were launched before a pause are not done in it."""
    stopwatch = Stopwatch(device.wait)
    train(device, stopwatch, 6)
    with stopwatch.paused():
        device.now += 3
        device.queue(1)  # a validation's work is no step's either
    train(device, stopwatch, 4)
    assert stopwatch.read().images_per_second == pytest.approx(50)
    train(device, stopwatch, 5)
    assert stopwatch.read().images_per_second == pytest.approx(50)


def test_checkpoints_are_a_share_of_the_time_and_none_of_the_rate(device):
    stopwatch = Stopwatch(device.wait)
    with stopwatch.paused(saving=True):
        device.now += 7
    train(device, stopwatch, 5)
    assert stopwatch.read().checkpoint_share == pytest.approx(7 / 8)  # warm-up
    for _ in range(2):
        train(device, stopwatch, 5)
        with stopwatch.paused():
            device.now += 100
        assert stopwatch.read().checkpoint_share == 0
    with stopwatch.paused(saving=True):
        device.now += 2
    stopwatch.read()
    rate = stopwatch.overall()
    assert rate.images_per_second == pytest.approx(50)
    assert rate.checkpoint_share == pytest.approx(2 / (2 + 2))


def test_a_run_of_one_reading_has_its_rate_and_share(device):
    stopwatch = Stopwatch(device.wait)
    train(device, stopwatch, 5)
    stopwatch.read()
    with stopwatch.paused(saving=True):
        device.now += 1
    stopwatch.read()
    assert stopwatch.overall().images_per_second == pytest.approx(50)
    assert stopwatch.overall().checkpoint_share == pytest.approx(1 / 2)
