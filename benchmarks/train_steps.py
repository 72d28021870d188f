"""The steps of a real `Trainer`, taken one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.harness import Session
from engine.config import TrainConfig
from engine.distributed import join_processes
from engine.training.throughput import Stopwatch
from engine.training.trainer import Trainer
from loaders import PoseBatch, build_loader


@contextlib.contextmanager
def train_steps(config: TrainConfig, *, cached_batch: bool = False) -> Iterator[Session]:
    """Build a trainer in a folder of its own; a step of the session is a training step.

    With a cached batch the loader repeats its first one.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-run-")))
        config = dataclasses.replace(config, run_dir=folder)
        process = stack.enter_context(join_processes(config.device, config.distributed.timeout))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            trainer = Trainer(config, process, functools.partial(build_loader, cached_batch=cached_batch))
        stack.enter_context(contextlib.closing(trainer))
        yield _session(trainer)


def _session(trainer: Trainer) -> Session:
    watch = Stopwatch()
    batches = _batches(trainer, watch)

    def step() -> int:
        batch = next(batches)
        trainer.train_step(batch)
        watch.count(len(batch))
        trainer.set_learning_rate()
        if trainer.step % trainer.config.log_every == 0:
            trainer.write_log()
        if trainer.preemption.beat().signal:  # the trainer notes Ctrl-C for its own loop
            raise KeyboardInterrupt
        return len(batch)

    return training_session(step, watch, trainer.process.device)


def training_session(step: Callable[[], int], watch: Stopwatch, device: torch.device) -> Session:
    """Return a session of training steps on ``device``; ``watch`` notes how long they wait for data."""

    def figures() -> dict[str, float]:
        return {"data-wait share": watch.read().wait_share}

    return Session(step, torch.cuda.synchronize if device.type == "cuda" else lambda: None, figures)


def _batches(trainer: Trainer, watch: Stopwatch) -> Iterator[PoseBatch]:
    while True:
        yield from watch.waiting(trainer.loader)
