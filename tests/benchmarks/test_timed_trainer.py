"""Training benchmarks run the real training loop, and measure the steps that they say."""

import itertools
from pathlib import Path

import pytest

from benchmarks import timed_trainer
from benchmarks.harness import Length
from benchmarks.timed_trainer import train
from engine.config import TrainConfig
from engine.training.trainer import Trainer
from loaders import DataConfig
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

BATCH, STEPS = 4, 5


@pytest.fixture
def config(tmp_path):
    shards = make_shard_set(tmp_path / "shards", {"train": 12, "val": 9}, image_size=64)
    data = DataConfig(shards=shards, batch_size=BATCH, threads=1)
    return TrainConfig(
        stage="train3d", run_dir=Path(), data=data, epochs=10**6, validate_every=10**6, precision="fp32", device="cpu"
    )


def note(monkeypatch, name, found):
    original = getattr(Trainer, name)

    def noting(self, *given):
        found.append(given)
        return original(self, *given)

    monkeypatch.setattr(Trainer, name, noting)


@pytest.mark.parametrize("cached", [False, True], ids=["shards", "cached batch"])
def test_the_real_loop_takes_so_many_steps(config, monkeypatch, cached):
    steps, validations = [], []
    note(monkeypatch, "train_step", steps)
    note(monkeypatch, "validate", validations)
    reading = train(config, cached, Length(steps=STEPS))
    assert reading.items == STEPS * BATCH
    assert reading.seconds > 0
    assert 0 <= reading.figures["data-wait share"] <= 1
    assert len(steps) == STEPS
    assert len(validations) == 2
    batches = [tuple(batch.index.tolist()) for (batch,) in steps]
    # an epoch has three batches; the next one follows without a pause
    assert len(set(batches[:3])) == (1 if cached else 3)
    if not cached:
        assert sorted(itertools.chain(*batches[:3])) == list(range(12))


def test_the_warm_up_is_not_measured(config, monkeypatch):
    steps = []
    note(monkeypatch, "train_step", steps)
    # seconds pass with every look at the clock, and two looks are a step of the warm-up or none
    clock = itertools.count()
    reading = train(config, False, Length(seconds=0.0, warmup=3.0, steps=2, clock=lambda: float(next(clock))))
    assert reading.items == 2 * BATCH
    assert len(steps) > 3


def test_ctrl_c_ends_the_benchmark(config, monkeypatch):
    monkeypatch.setattr(timed_trainer.Trainer, "fit", lambda self: 2)
    with pytest.raises(KeyboardInterrupt):
        train(config, False, Length())
