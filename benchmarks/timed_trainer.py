"""A run of the real `Trainer` that ends when it has been measured for long enough."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.harness import Length, Reading
from benchmarks.peers.common import endless
from engine.config import TrainConfig
from engine.distributed import join_processes
from engine.training.trainer import Trainer
from loaders import DataConfig, Loader, PoseBatch, build_loader


def train(config: TrainConfig, cached_batch: bool, length: Length) -> Reading:
    """Train in a folder of its own, from shards or from a cached batch: the data-free upper bound."""
    (reading,) = _train(config, (False,), length, cached_batch=cached_batch)
    return reading


def train_in_turn(config: TrainConfig, length: Length, repetitions: int) -> tuple[list[Reading], list[Reading]]:
    """Train in one run, in turn from shards and from the first batch again and again; return both ways' readings.

    One start and one compilation for both; meanwhile the loader has filled its queue, and rests.
    """
    readings = _train(config, (False, True) * repetitions, length)
    return readings[::2], readings[1::2]


def _train(config: TrainConfig, plan: Sequence[bool], length: Length, *, cached_batch: bool = False) -> list[Reading]:
    """Return a reading for each element of the plan, which says whether the first batch is repeated."""
    timed: list[_TimedLoader] = []

    def build(data: DataConfig, split: str, **options: Any) -> Loader:
        if not options.get("training"):
            return cast(Loader, _OneBatch(build_loader(data, split, **options)))
        loader = build_loader(data, split, cached_batch=cached_batch, **options)
        timed.append(_TimedLoader(loader, plan, length, config.epochs))
        return cast(Loader, timed[0])

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-run-")))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # its progress bar
        process = stack.enter_context(join_processes(config.device, config.distributed.timeout))
        trainer = Trainer(dataclasses.replace(config, run_dir=folder), process, build=build)
        with contextlib.closing(trainer):
            if trainer.fit():  # the number of a signal; the trainer takes Ctrl-C for itself
                raise KeyboardInterrupt
    return timed[0].readings


class _Wrapped:
    """A loader whose batches are handed out in another way."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)


class _OneBatch(_Wrapped):
    """Validation, which is not measured, on the first batch only."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self._start = loader.state_dict()

    def __iter__(self) -> Iterator[PoseBatch]:
        self._loader.load_state_dict(self._start)
        return itertools.islice(self._loader, 1)


class _TimedLoader(_Wrapped):
    """Training batches, one epoch after the other without a pause, until enough steps were measured."""

    def __init__(self, loader: Loader, plan: Sequence[bool], length: Length, epochs: int) -> None:
        super().__init__(loader)
        self._plan = plan
        self._length = length
        self._epochs = epochs
        self.readings: list[Reading] = []

    @property
    def epoch(self) -> int:
        """The loader's epoch, or the run's last one when it has been measured."""
        return self._epochs if len(self.readings) == len(self._plan) else self._loader.epoch

    def __iter__(self) -> Iterator[PoseBatch]:
        with contextlib.closing(endless(self._loader)) as batches:
            first = None
            for repeats in self._plan:
                if repeats and first is None:
                    first = next(batches)
                yield from self._measured(itertools.repeat(first) if repeats and first else batches)

    def _measured(self, batches: Iterator[PoseBatch]) -> Iterator[PoseBatch]:
        length, clock = self._length, self._length.clock
        if length.warmup > 0:
            yield next(batches)  # the first step takes longer
            end = clock() + length.warmup
            while clock() < end:
                yield next(batches)
        self._synchronize()
        images, steps, waited, began = 0, 0, 0.0, clock()
        while steps < length.steps or clock() - began < length.seconds:
            before = clock()
            batch = next(batches)
            waited += clock() - before
            yield batch
            images += len(batch)
            steps += 1
        self._synchronize()
        seconds = clock() - began
        self.readings.append(Reading(images, seconds, {"data-wait share": waited / seconds}))

    def _synchronize(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
