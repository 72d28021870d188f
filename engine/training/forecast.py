"""What a training run will do, how long it takes and how much space and memory, from a few steps in memory."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from tqdm import tqdm

from engine.checkpoint.checkpointer import BEST, Checkpointer, checkpoints
from engine.cli.forecast import Destination, counted, show
from engine.config import TrainConfig, ignored_values
from engine.distributed import Process
from engine.profiling.throughput import Rate, StepQueue, Stopwatch
from engine.stages.pretrained import to_download
from engine.training.run import Run
from engine.training.run_folder import inspected
from engine.training.validation import validate
from loaders import PoseBatch
from loaders.system.os_errors import format_bytes
from models.timm_backbone import is_timm

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WARMUP: Final = 3
"""First steps, in which memory is found and kernels are chosen (steps)."""
_STEPS: Final = 20
"""Steps that are timed, if they are quick enough (steps)."""
_SECONDS: Final = 20.0
"""How long timing them may take (seconds)."""
_VAL_BATCHES: Final = 3
"""Batches whose validation is timed (batches)."""


class Rehearsal(Run):
    """A run that looks at its folder and leaves no file anywhere: nothing downloaded, nothing compiled."""

    def __init__(self, config: TrainConfig, process: Process) -> None:
        super().__init__(config, process, inspected)
        self.begins_at = self.step
        """Steps that were taken before (steps)."""

    def _network_config(self) -> TrainConfig:
        model = self.config.model
        pretrained = None if to_download(model) else model.pretrained
        return dataclasses.replace(self.config, model=dataclasses.replace(model, pretrained=pretrained), compile="off")


@dataclass(frozen=True)
class Forecast:
    """What a run has before it, and what a few of its steps took."""

    steps: int
    """Steps to come (steps)."""
    validations: int
    """Validations to come, the one before the first step among them."""
    rate: Rate
    """Of training."""
    timed_steps: int
    """Over how many steps (steps)."""
    val_rate: Rate
    """Of validation."""
    memory: int
    """The most that a process took, of the GPU's if it trains there (bytes)."""
    checkpoint: int
    """Size of a checkpoint (bytes)."""


def rehearse(config: TrainConfig, process: Process) -> None:
    """Say what a run will do; every process must call it. Raises what a run raises before its first step."""
    with contextlib.closing(Rehearsal(config, process)) as run:
        forecast = make_forecast(run)
        if process.is_main:
            show_forecast(run, forecast)


def make_forecast(run: Rehearsal) -> Forecast:
    """Count what lies ahead, then take a few steps in memory; every process must call it."""
    steps = run.schedule.steps_left(run.step)
    validations = run.schedule.validations_left(run.step, run.validated_at)
    rate, timed_steps = _time_training(run)
    val_rate = _time_validation(run)
    size = _file_size(run)
    # the last one and the best one are written from copies
    memory = _peak_memory() + (0 if run.process.device.type == "cuda" else 2 * size)
    return Forecast(steps, validations, rate, timed_steps, val_rate, max(run.process.gather(memory)), size)


def _time_training(run: Rehearsal) -> tuple[Rate, int]:
    """Return the rate over some steps, and their number."""
    remedy = Checkpointer(run.config.run_dir, run.config.checkpoint, on=False).remedy
    stopwatch = Stopwatch(StepQueue(run.process.device))
    batches = stopwatch.waiting(_endless(run))
    run.set_learning_rate()

    def take(steps: int) -> Rate:
        for batch in itertools.islice(batches, steps):
            run.update(batch)
            stopwatch.count(batch.frames * run.process.world_size)
        run.means.read(run.step, remedy)
        return stopwatch.read()

    steps, rate = 1, take(1)
    for most in (_WARMUP - 1, _STEPS):
        fitting = int(_SECONDS * steps / rate.seconds)
        steps = run.process.from_main(max(1, min(most, fitting)))  # all processes take the same number
        rate = take(steps)
    return rate, steps


def _endless(run: Rehearsal) -> Iterator[PoseBatch]:
    while True:
        yield from run.loader


def _time_validation(run: Rehearsal) -> Rate:
    """Return the rate over the first batches, after one to warm up if there are others."""
    rate = Rate()
    batches = iter(run.val_loader)
    for number in (1, _VAL_BATCHES):
        began = time.perf_counter()
        some = list(itertools.islice(batches, number))
        if not any(run.process.gather(len(some))):
            break
        result = validate(run.stage, run.learner.eval_model, some, run.process, run.learner.precision)
        rate = Rate(result.frames, time.perf_counter() - began)
    return rate


def _peak_memory() -> int:
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Length(io.RawIOBase):
    """A file that keeps nothing but its length."""

    length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        self.length += size
        return size


def _file_size(run: Run) -> int:
    """Return how large a checkpoint is in a file (bytes)."""
    length = _Length()
    with io.BufferedWriter(length) as file:
        torch.save(run.checkpoint().to_file(), file)
    return length.length


def show_forecast(run: Rehearsal, forecast: Forecast) -> None:
    """Write what the run will do to standard output."""
    config, on_gpu = run.config, run.process.device.type == "cuda"
    destination = Destination(config.run_dir, "--run-dir")
    kept = config.checkpoint.keep + 1
    there = [path for path in (*checkpoints(config.run_dir), config.run_dir / BEST) if path.exists()]
    # the next one is written before the oldest goes
    needed = max(1, kept + 1 - len(there)) * forecast.checkpoint
    rows = [
        *_plan_rows(run, forecast),
        ("", ""),
        *_time_rows(run, forecast),
        (
            "GPU memory" if on_gpu else "memory",
            f"{format_bytes(forecast.memory)} at the peak, per process{', and what DALI takes' if on_gpu else ''}",
        ),
        ("checkpoint", f"{format_bytes(forecast.checkpoint)}; {kept} stay, {format_bytes(kept * forecast.checkpoint)}"),
        ("space", f"{format_bytes(needed)} while one is written; {format_bytes(destination.free)} are free"),
    ]
    notes = []
    if config.compile != "off":
        notes.append("measured without torch.compile, which keeps what it compiles on the disk")
    if to_download(config.model) and "model.pretrained" not in ignored_values(config):
        still = "may have" if is_timm(config.model.backbone) else "is still"
        notes.append(f"model.pretrained {config.model.pretrained} {still} to be downloaded: measured without it")
    show(rows, (*notes, *destination.warnings(needed)))


def _plan_rows(run: Rehearsal, forecast: Forecast) -> list[tuple[str, str]]:
    config, process = run.config, run.process
    networks = run.stage.networks(run.learner.model)
    sizes = {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()}
    several = process.world_size > 1
    splits = {"train": run.loader, "val": run.val_loader}
    counts = ", ".join(f"{len(loader.windows)} {split}" for split, loader in splits.items())
    shares = f" ({process.world_size} processes x {config.data.batch_size})" if several else ""
    begins = f"goes on from step {run.begins_at}" if run.resumed else "begins"
    return [
        ("stage", f"{config.stage} on {process.device.type} in {run.learner.precision.name}"),
        *((name.replace("_", " "), f"{size:,} parameters") for name, size in sizes.items()),
        ("samples", counts),
        ("batch", f"{counted(run.loader.global_batch, 'sample')}{shares}"),
        ("epoch", counted(run.loader.batches_per_epoch, "step")),
        ("run", f"{begins} in {config.run_dir}"),
        ("to do", f"{counted(forecast.steps, 'step')}, {counted(forecast.validations, 'validation')}"),
    ]


def _time_rows(run: Rehearsal, forecast: Forecast) -> list[tuple[str, str]]:
    rate, val_rate = forecast.rate, forecast.val_rate
    training = forecast.steps * run.loader.batch_frames * run.process.world_size / rate.images_per_second
    validation = forecast.validations * len(run.val_loader.windows) / val_rate.images_per_second
    parts = f"training {tqdm.format_interval(training)}, validation {tqdm.format_interval(validation)}"
    return [
        ("training", f"{rate.images_per_second:.4g} images/s, {rate.wait_share:.0%} of the time waiting for data"),
        ("validation", f"{val_rate.images_per_second:.4g} images/s"),
        ("measured on", f"{counted(forecast.timed_steps, 'step')} after the first ones"),
        ("time", f"about {tqdm.format_interval(training + validation)}: {parts}"),
    ]
