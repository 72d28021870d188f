"""The training loop: one for all stages."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.profiler import record_function

from engine.checkpoint.format import Checkpoint, ResumeState, random_state, restore_random_state
from engine.cli.signals import Stopped
from engine.config import TrainConfig, to_plain
from engine.distributed import Process
from engine.stages import STAGES
from engine.training.checkpointer import LAST, CheckpointWriter, load_newest
from engine.training.consistency import check_consistency
from engine.training.divergence import first_non_finite, remedy
from engine.training.learner import Learner
from engine.training.metrics_log import RunLog
from engine.training.preemption import Preemption
from engine.training.profiler import TRACE, StepProfile
from engine.training.resumption import changes, check_resumable
from engine.training.run_folder import CONFIG, claimed
from engine.training.running_means import RunningMeans
from engine.training.throughput import Stopwatch
from engine.training.validation import validate
from engine.visualization.training import draw_examples
from loaders import Loader, PoseBatch, build_loader
from loaders.errors import Failure
from loaders.system.files import remove_partials, write_whole


class Trainer:
    """Trains one stage. Build it, then `fit` it; `close` in any case."""

    def __init__(self, config: TrainConfig, process: Process, build: Callable[..., Loader] = build_loader) -> None:
        """Prepare everything that can fail before the first step.

        Args:
            config: of the run.
            process: this one.
            build: makes the loaders; takes what `build_loader` takes.

        Raises:
            InputError: the data, a checkpoint or the run folder is not what the configuration needs.
        """
        self.config = config
        self.process = process
        resume = config.resume or process.restarted
        stage = STAGES[config.stage]
        build = functools.partial(
            build,
            config.data,
            rank=process.rank,
            world_size=process.world_size,
            device=process.device,
            outputs=stage.outputs,
        )
        with contextlib.ExitStack() as opened:
            self.loader = opened.enter_context(contextlib.closing(build("train", training=True)))
            self.val_loader = opened.enter_context(contextlib.closing(build("val")))
            check_consistency(config, {"train": self.loader, "val": self.val_loader}, process)
            opened.enter_context(claimed(config.run_dir, config.stage, process, resume=resume))
            self.stage = stage(config.model, self.loader.image_size, config.loss)
            _seed_all(config.seed)
            initial = {"heatmap_net": config.load_2d, "lifting_net": config.load_3d}
            self.learner = Learner(
                self.stage,
                process,
                optim=config.optim,
                distributed=config.distributed,
                precision=config.precision,
                compile_mode=config.compile,
                initial_weights={network: path for network, path in initial.items() if path is not None},
            )
            self.step = 0
            self.best = math.inf
            self.means = RunningMeans()
            self.validations: list[dict[str, float]] = []
            self.validated_at: int | None = None
            """Step of the last validation."""
            self.skipped: set[str] = set()
            """Samples that cannot be decoded, on all processes."""
            self.saved_step: int | None = None
            """Step of the last checkpoint."""
            log_position, notes = self._resume() if resume else (0, [])
            if process.is_main:
                remove_partials(config.run_dir)
                write_whole(config.run_dir / CONFIG, yaml.safe_dump(to_plain(config), sort_keys=False).encode())
            self.stopwatch = Stopwatch()
            self.log = RunLog(
                config.run_dir,
                on=process.is_main,
                position=log_position,
                step=self.step,
                total_steps=self.step + self.steps_left,
            )
            opened.callback(self.log.close)
            for note in notes:
                self.log.note(note)
            self.preemption = Preemption(process, self.answer)
            opened.callback(self.preemption.close)
            self.profile = StepProfile(config.run_dir, on=config.profile and process.is_main)
            opened.callback(self.profile.close)
            self.writer = CheckpointWriter(config.run_dir, config.keep_checkpoints)
            self._saved = time.monotonic()
            self._gradient_norm: Tensor | None = None
            opened.callback(self.writer.close)
            self._opened = opened.pop_all()

    def fit(self) -> int:
        """Train to the end, or until a signal asks to stop. Returns that signal, 0 at the end."""
        if self.saved_step is None:
            # before anything is logged: a log without a checkpoint is that of a run which lost some
            self.save()
            self.writer.wait()
        while True:
            if self.validation_due():
                try:
                    self.validate()
                except Stopped as stopped:  # a resumed run validates anew, from the checkpoint just before
                    return stopped.number
            if self.finished():
                break
            if stopped_by := self.train_epoch():
                return stopped_by
        self.writer.wait()
        if self.profile.missed:
            self.log.note(f"warning: the run ended before the steps that --profile traces: no {TRACE}")
        self.write_summary()
        return 0

    def train_epoch(self) -> int:
        """Train to the end of the epoch, or of the run. Returns the signal that asked to stop, 0 if none did."""
        self.set_learning_rate()
        for batch in self.stopwatch.waiting(self.loader):
            self.train_step(batch)
            self.set_learning_rate()
            agreed = self.preemption.beat(checkpoint=self._checkpoint_overdue())
            if self.step % self.config.log_every == 0:
                self.write_log()
            if agreed.signal:
                self.save()
                return agreed.signal
            if self.finished():
                break
            if agreed.checkpoint or self.step % self.config.checkpoint_every == 0:
                self.save()
        self.save()
        return 0

    def train_step(self, batch: PoseBatch) -> None:
        """Update the weights by one batch. Nothing here waits for the device."""
        self.step += 1
        found = self.learner.step(batch, with_gradient_norm=self.step % self.config.log_every == 0)
        self._gradient_norm = found.pop("gradient_norm", None)
        self.means.add(found, batch.index)
        self.stopwatch.count(len(batch) * self.process.world_size)
        self.profile.step()
        self.log.advance()

    def set_learning_rate(self) -> None:
        """Set the learning rate of the next step."""
        self.learner.lr = self.config.optim.lr_at(self.loader.progress, self.horizon)

    def write_log(self) -> None:
        """Write the means since the last entry. Waits for the device; raises Failure for a non-finite loss."""
        means = self._finite_means()
        self.means.clear()
        rate = self.stopwatch.read()
        values = {
            **{f"train/{name}": value for name, value in means.items()},
            "train/lr": self.learner.lr,
            "train/epoch": self.loader.progress,
            "speed/images_per_second": rate.images_per_second,
            "speed/data_wait_share": rate.wait_share,
        }
        # fp16 that overflowed has no norm at this step: the update was skipped
        if self._gradient_norm is not None and math.isfinite(norm := float(self._gradient_norm)):
            values["train/gradient_norm"] = norm
        if self.learner.scaler.is_enabled():
            values["train/gradient_scale"] = self.learner.scaler.get_scale()
        if self.process.device.type == "cuda":
            values["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.log.scalars(self.step, values)
        self.log.show({"loss": f"{means['loss']:.4g}", "images/s": f"{rate.images_per_second:.0f}"})

    def validation_due(self) -> bool:
        """Whether the network is to be judged now: before the first step, after every so many epochs, at the end."""
        if self.validated_at == self.step:
            return False
        epochs = self.loader.progress
        return self.finished() or (epochs == int(epochs) and int(epochs) % self.config.validate_every == 0)

    def validate(self) -> None:
        """Judge the network on the validation split, and keep it if it is the best so far."""
        learner = self.learner
        with self.stopwatch.paused():
            found = validate(
                self.stage,
                learner.eval_model,
                self.preemption.batches(self.val_loader),
                self.process,
                learner.precision,
            )
        self.validations.append(found.values)
        self.validated_at = self.step
        self.log.scalars(self.step, {f"val/{name}": value for name, value in found.values.items()})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in found.values.items() if "/" not in name)
        self.log.note(f"step {self.step}: validation on {found.frames} frames: {figures}")
        if self.process.is_main and found.example is not None:
            self.log.image(self.step, "val/examples", draw_examples(self.stage, *found.example))
        self.note_skipped()
        better = found.values[self.stage.metric] < self.best
        if better:
            self.best = found.values[self.stage.metric]
        self.save(best=better)

    def note_skipped(self) -> None:
        """Name the samples that were skipped since the last call."""
        own = [*self.loader.skipped.values(), *self.val_loader.skipped.values()]
        for sample in self.process.everyones_keys(dict.fromkeys(own)):
            if sample not in self.skipped:
                self.skipped.add(sample)
                self.log.note(f"skipped: {sample}")

    def save(self, *, best: bool = False) -> None:
        """Begin to write a checkpoint. A network spoilt by a non-finite loss or update is never written."""
        with self.stopwatch.paused(), record_function("checkpoint"):
            self._finite_means()
            if not self.process.from_main(self.learner.is_finite()):
                advice = remedy(self.config.run_dir, self.saved_step, self.step + 1)
                raise Failure(f"the weights are not finite at step {self.step}; {advice}")
            if self.process.is_main:
                self.writer.write(self._checkpoint(), best=best)
        self.saved_step = self.step
        self._saved = time.monotonic()

    def answer(self, signal_name: str) -> None:
        """Tell the user that a signal was heard."""
        self.log.note(f"{signal_name}: ending with a checkpoint, which --resume goes on from; once more ends at once")

    def write_summary(self) -> None:
        """Write summary.json: how fast, how good."""
        rate = self.stopwatch.overall()
        summary = {
            "stage": self.stage.name,
            "steps": self.step,
            "epochs": self.loader.progress,
            "images_per_second": round(rate.images_per_second, 2),
            "data_wait_share": round(rate.wait_share, 4),
            "skipped_samples": len(self.skipped),
            "processes": self.process.world_size,
            "device": self.process.device.type,
            "precision": self.learner.precision.name,
            "best": {self.stage.metric: self.best},
            "first_validation": self.validations[0],
            "last_validation": self.validations[-1],
        }
        if self.process.is_main:
            write_whole(self.config.run_dir / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())

    def close(self) -> None:
        """Finish writing; free loaders, log and signal handlers. Raises OSError if a checkpoint was not written."""
        self._opened.close()

    def finished(self) -> bool:
        """Whether the run has reached its end."""
        steps = self.config.max_steps
        return self.loader.epoch >= self.config.epochs or (steps is not None and self.step >= steps)

    @property
    def steps_left(self) -> int:
        """Steps to the end with the present number of processes."""
        epochs_left = self.config.epochs - self.loader.epoch - 1
        left = max(0, len(self.loader) + epochs_left * self.loader.batches_per_epoch)
        return left if self.config.max_steps is None else min(left, self.config.max_steps - self.step)

    @property
    def horizon(self) -> float:
        """Length of the run (epochs)."""
        if self.config.max_steps is None:
            return self.config.epochs
        return min(self.config.epochs, self.config.max_steps / self.loader.batches_per_epoch)

    def _checkpoint_overdue(self) -> bool:
        return self.process.is_main and time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes

    def _finite_means(self) -> dict[str, float]:
        """Return the means since the last log entry. Raises Failure if one is not a finite number."""
        means = self.means.read(self.process)
        if not all(map(math.isfinite, means.values())):
            step, where = first_non_finite(self.means, self.loader.shard_set, self.process, self.step)
            raise Failure(f"the loss is not finite {where}; {remedy(self.config.run_dir, self.saved_step, step)}")
        return means

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            stage=self.stage.name,
            image_size=self.stage.image_size,
            config=to_plain(self.config),
            weights=self.learner.weights,
            step=self.step,
            preprocessing=dataclasses.asdict(self.loader.shard_set.manifest.preprocessing),
            resume_state=ResumeState(
                best=self.best,
                validations=self.validations,
                validated_at=self.validated_at,
                **self.learner.resume_state(),
                loader=self.loader.state_dict(),
                random=random_state(),
                running_means=self.means.state_dict(),
                log_position=self.log.position,
            ),
        )

    def _resume(self) -> tuple[int, list[str]]:
        """Go on from the newest checkpoint that is whole; return where the log was, and what there is to say about it.

        It is read once: all processes go on from the same one, also where they share no disk.
        """
        newest = load_newest(self.config.run_dir) if self.process.is_main else (None, [])
        checkpoint, faults = self.process.from_main(newest)
        if checkpoint is None:
            return 0, []
        source = self.config.run_dir / LAST
        state = check_resumable(checkpoint, self.config, self.stage.image_size, source)
        self.learner.resume(checkpoint.weights, state, source)
        self.loader.load_state_dict(state.loader)
        restore_random_state(state.random)
        self.step, self.best = checkpoint.step, state.best
        self.saved_step = self.step
        self.validations, self.validated_at = state.validations, state.validated_at
        self.means.load_state_dict(state.running_means, self.process.device)
        notes = [f"warning: {fault}; going on from another checkpoint, step {self.step}" for fault in faults]
        return state.log_position, notes + [f"resumed: {line}" for line in changes(checkpoint, self.config)]


def _seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators. Ours draw from torch alone; what users add may not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is meant
    torch.manual_seed(seed)
