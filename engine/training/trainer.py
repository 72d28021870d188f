"""The training loop: one for all stages."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable

import yaml
from torch import Tensor
from torch.profiler import record_function

from engine.checkpoint.checkpointer import Checkpointer
from engine.cli.signals import Stopped
from engine.config import TrainConfig, flatten
from engine.distributed import Process
from engine.profiling.bottleneck import Bottleneck, find_bottleneck
from engine.profiling.flops import Utilization
from engine.profiling.step_profile import TRACE, StepProfile
from engine.profiling.throughput import StepQueue, Stopwatch
from engine.training.metrics_log import RunLog
from engine.training.preemption import Preemption
from engine.training.run import Run
from engine.training.run_folder import CONFIG, claimed
from engine.training.validation import validate
from loaders import Loader, PoseBatch, build_loader
from loaders.errors import Failure
from loaders.system.files import remove_partials, write_whole


class Trainer(Run):
    """Trains a run and writes its folder. Build it, then `fit` it; `close` in any case."""

    def __init__(self, config: TrainConfig, process: Process, build: Callable[..., Loader] = build_loader) -> None:
        """As `Run`, whose folder it claims; and open everything that is written."""
        super().__init__(config, process, claimed, build)
        with contextlib.ExitStack() as opened:
            opened.enter_context(self._opened)
            self.checkpointer = Checkpointer(config.run_dir, config.checkpoint, on=process.is_main)
            if self.resumed:
                self.checkpointer.saved_step = self.step
            if process.is_main:
                remove_partials(config.run_dir)
            self.log = RunLog(
                config.run_dir,
                config.log,
                flatten(self.used_config),
                on=process.is_main,
                position=self.log_position,
                step=self.step,
                total_steps=self.step + self.schedule.steps_left(self.step),
            )
            opened.callback(self.log.close)
            if process.is_main:  # a run that a tracker refused can be begun anew
                write_whole(config.run_dir / CONFIG, yaml.safe_dump(self.used_config, sort_keys=False).encode())
            self.preemption = Preemption(process, self._answer)
            opened.callback(self.preemption.close)
            self.profile = StepProfile(config.run_dir, on=config.profile and process.is_main)
            opened.callback(self.profile.close)
            opened.callback(self.checkpointer.close)  # the first to be closed: signals are still noted
            self.utilization = Utilization.of(self.config, self.stage, process, self.learner.precision)
            if self.utilization.note:
                self.log.note(self.utilization.note)
            self.stopwatch = Stopwatch(StepQueue(process.device), self.loader.stage_times)
            self._opened = opened.pop_all()

    def fit(self) -> int:
        """Train to the end, or until a signal asks to stop. Returns that signal, 0 at the end."""
        if self.checkpointer.saved_step is None:
            # before anything is logged: a log without a checkpoint is that of a run which lost some
            self.save()
            self._wait_for_checkpoints()
        while True:
            if self.schedule.validation_due(self.step, self.validated_at):
                try:
                    self.validate()
                except Stopped as stopped:  # a resumed run validates anew
                    if self.checkpointer.saved_step != self.step:
                        self.save()
                    self.explain()
                    return stopped.number
            if self.schedule.finished(self.step):
                break
            if signal := self.train_epoch():
                self.explain()
                return signal
        self._wait_for_checkpoints()
        if self.profile.missed:
            self.log.note(f"the run ended before the steps that --profile traces: no {TRACE}", logging.WARNING)
        self.write_summary()
        return 0

    def train_epoch(self) -> int:
        """Train to the end of the epoch, or of the run. Returns the signal that asked to stop, 0 if none did."""
        self.set_learning_rate()
        for batch in self.stopwatch.waiting(self.loader):
            self.train_step(batch)
            requests = self.preemption.exchange(checkpoint=self.checkpointer.due(self.step))
            if requests.signal:
                self.save()
                return requests.signal
            if self.schedule.finished(self.step):  # the validation that follows saves
                return 0
            if requests.checkpoint:
                self.save()
                self.preemption.drop_sent()  # what was asked for meanwhile is done
        return 0

    def train_step(self, batch: PoseBatch) -> None:
        """Update the weights by one batch. Waits for the device only where a log entry is due."""
        log_due = (self.step + 1) % self.config.log_every == 0
        gradient_norm = self.update(batch, with_gradient_norm=log_due)
        self.stopwatch.count(batch.frames * self.process.world_size)
        self.profile.step()
        self.log.advance()
        if log_due:
            self.write_log(gradient_norm)

    def write_log(self, gradient_norm: Tensor | None) -> None:
        """Write the means since the last entry. Waits for the device; raises Failure for a non-finite loss."""
        rate = self.stopwatch.read()  # first, since whoever waits for the device says so
        means = self.means.read(self.step, self.checkpointer.remedy)
        self.means.clear()
        figures = {"lr": self.learner.lr, "epoch": self.loader.progress}
        # fp16 that overflowed has no norm at this step: the update was skipped
        if gradient_norm is not None and math.isfinite(norm := float(gradient_norm)):
            figures["gradient_norm"] = norm
        if self.learner.scaler.is_enabled():
            figures["gradient_scale"] = self.learner.scaler.get_scale()
        self.log.training(self.step, means | figures, rate.figures() | self.utilization.figures(rate.images_per_second))

    def validate(self) -> None:
        """Evaluate the network on the validation split; save it if that is due, and if it is the best so far."""
        with self.stopwatch.paused("validating"):
            batches = self.preemption.batches(self.val_loader)
            result = validate(self.stage, self.learner.eval_model, batches, self.process, self.learner.precision)
            self.log.validation(self.step, self.stage, result)
            skipped = [*self.loader.skipped.values(), *self.val_loader.skipped.values()]
            self.log.note_skipped(self.process.everyones_keys(dict.fromkeys(skipped)))
        self.validations.append(result.metrics)
        self.validated_at = self.step
        is_best = result.metrics[self.stage.metric] < self.best
        if is_best:
            self.best = result.metrics[self.stage.metric]
        due = self.schedule.finished(self.step) or self.process.from_main(
            self.checkpointer.due(self.step, validated=True)
        )
        if due or is_best:
            self.save(best=is_best, write=due)

    def save(self, *, best: bool = False, write: bool = True) -> None:
        """Begin to write a checkpoint. Raises Failure, and writes none, if a loss or a weight is not finite.

        Args:
            best: it is the best one so far.
            write: now; or else hold it, the best one, in memory until the next is written.
        """
        with self.stopwatch.paused("saving"), record_function("checkpoint"):
            self.means.read(self.step, self.checkpointer.remedy)
            if not self.process.from_main(self.learner.is_finite()):
                advice = self.checkpointer.remedy(self.step + 1)
                raise Failure(f"the weights are not finite at step {self.step}; {advice}")
            self.log_position = self.log.position
            if write:
                self.checkpointer.write(self.checkpoint(), best=best)
            else:
                self.checkpointer.hold_best(self.checkpoint())

    def write_summary(self) -> None:
        """Write summary.json: how fast, why not faster, how good; every process must call it."""
        bottleneck = self.explain()
        rate = self.stopwatch.overall()
        speed = rate.figures() | self.utilization.figures(rate.images_per_second)
        flop = self.utilization.flop_per_image
        self.log.summary(
            {
                "stage": self.stage.name,
                "steps": self.step,
                "epochs": self.loader.progress,
                **{name: round(value, 4) if rate.images else None for name, value in speed.items()},
                "gflop_per_image": None if flop is None else round(flop / 1e9, 4),
                "bottleneck": dataclasses.asdict(bottleneck) if bottleneck else None,
                "skipped_samples": len(self.log.skipped),
                "processes": self.process.world_size,
                "device": self.process.device.type,
                "precision": self.learner.precision.name,
                "best": {self.stage.metric: self.best},
                "first_validation": self.validations[0],
                "last_validation": self.validations[-1],
            }
        )

    def explain(self) -> Bottleneck | None:
        """Say what holds the run, None if no step was taken; every process must call it."""
        self.stopwatch.read()  # the steps since the last log entry
        rate = self.stopwatch.overall()
        exchanging = self.learner.exchange_time * rate.images / (self.loader.batch_frames * self.process.world_size)
        rates = self.process.gather(dataclasses.replace(rate, exchanging=exchanging))
        if not rate.images:
            return None
        found = find_bottleneck(rates, self.config, self.process.device)
        self.log.note(found.sentence)
        return found

    def close(self) -> None:
        """Finish writing; free loaders, log and signal handlers. Raises OSError if a checkpoint was not written."""
        self._opened.close()

    def _wait_for_checkpoints(self) -> None:
        with self.stopwatch.paused("saving"):
            self.checkpointer.wait()

    def _answer(self, signal_name: str) -> None:
        """Tell the user that a signal was heard."""
        self.log.note(f"{signal_name}: ending with a checkpoint, which --resume goes on from; once more ends at once")
