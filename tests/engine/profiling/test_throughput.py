"""How fast training is said to be, where a device works behind the host."""

import time
from collections import Counter

import pytest
import torch

from engine.profiling.throughput import Rate, StepQueue, Stopwatch
from loaders.stage_times import Crew, LoaderWork, StageTimes


class Device:
    """Clock and queue of a device that takes what it is given in order, and which the host need not wait for."""

    exists = True

    def __init__(self, monkeypatch):
        self.now = 0.0
        self._free_at = self._noted = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def queue(self, seconds):
        self._free_at = max(self._free_at, self.now) + seconds

    def wait(self):
        self.now = max(self.now, self._free_at)

    def add(self):
        self._noted = self._free_at

    def is_empty(self):
        return self.now >= self._noted


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
    stopwatch = Stopwatch(device)
    train(device, stopwatch, 6)
    with stopwatch.paused("validating"):
        device.now += 3
        device.queue(1)  # a validation's work is no step's either
    train(device, stopwatch, 4)
    assert stopwatch.read().images_per_second == pytest.approx(50)
    train(device, stopwatch, 5)
    assert stopwatch.read().images_per_second == pytest.approx(50)


def test_checkpoints_are_a_share_of_the_time_and_none_of_the_rate(device):
    stopwatch = Stopwatch(device)
    with stopwatch.paused("saving"):
        device.now += 7
    train(device, stopwatch, 5)
    assert stopwatch.read().figures()["checkpoint_share"] == pytest.approx(7 / 8)  # warm-up
    for _ in range(2):
        train(device, stopwatch, 5)
        with stopwatch.paused("validating"):
            device.now += 10
        assert stopwatch.read().figures()["checkpoint_share"] == 0
    with stopwatch.paused("saving"):
        device.now += 2
    stopwatch.read()
    rate = stopwatch.overall()
    assert rate.images_per_second == pytest.approx(50)
    figures = rate.figures()
    assert figures["checkpoint_share"] == pytest.approx(2 / (2 + 2 + 20))
    assert figures["validation_share"] == pytest.approx(20 / (2 + 2 + 20))


def test_a_run_of_one_reading_has_its_rate_and_share(device):
    stopwatch = Stopwatch(device)
    train(device, stopwatch, 5)
    stopwatch.read()
    with stopwatch.paused("saving"):
        device.now += 1
    stopwatch.read()
    assert stopwatch.overall().images_per_second == pytest.approx(50)
    assert stopwatch.overall().figures()["checkpoint_share"] == pytest.approx(1 / 2)


def batches(device, seconds):
    """Yield batches that take so long to come, for ever."""
    while True:
        device.now += seconds
        yield None


@pytest.mark.parametrize(
    ("data", "host", "computing", "shares"),
    [
        (0.01, 0.02, 0.1, (0, 0, 1)),  # the device is behind all the time
        (0.01, 0.09, 0.02, (0.1, 0.9, 0)),  # the device waits for the host
        (0.07, 0.03, 0.02, (0.7, 0.3, 0)),  # and for data
    ],
)
def test_training_waits_for_data_host_or_device(device, data, host, computing, shares):
    stopwatch = Stopwatch(device)
    taken = stopwatch.waiting(batches(device, data))
    for _ in range(2):
        for _ in range(200):
            next(taken)
            device.queue(computing)
            device.now += host
            stopwatch.count(1)
        rate = stopwatch.read()
    figures = rate.figures()
    found = [figures[name] for name in ("data_wait_share", "host_share", "device_share")]
    assert found == pytest.approx(shares, abs=0.01)
    assert rate.images_per_second == pytest.approx(1 / max(data + host, computing), rel=0.01)


def test_on_a_cpu_host_and_device_are_one(device):
    stopwatch = Stopwatch(StepQueue(torch.device("cpu")))
    for _ in stopwatch.waiting([None] * 3):
        device.now += 0.5
        stopwatch.count(4)
    figures = stopwatch.read().figures()
    assert figures["images_per_second"] == 8
    assert not {"host_share", "device_share"} & set(figures)


def test_stages_of_the_loader_are_shares_of_the_time_of_their_threads(device):
    times = StageTimes([Crew(("read",)), Crew(("decode", "warp"), threads=4)])
    stopwatch = Stopwatch(StepQueue(torch.device("cpu")), times)
    times.add("decode", 100.0)  # warm-up
    stopwatch.count(1)
    stopwatch.read()
    device.now += 10
    times.add("read", 1.0)
    times.add("decode", 30.0)
    for ready in (True, True, True, False):
        times.asked(ready)
        times.handed_over()
    stopwatch.count(1)
    figures = stopwatch.read().figures()
    assert {name: figures[f"loader_{name}_share"] for name in ("read", "decode", "warp")} == {
        "read": 0.1,
        "decode": 0.75,
        "warp": 0,
    }
    assert figures["queue_fill"] == 0.75
    assert stopwatch.overall().loader == LoaderWork(Counter(read=1.0, decode=30.0), batches=4, late=1)
    assert Rate().figures()["queue_fill"] == 0
