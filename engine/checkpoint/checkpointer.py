"""The checkpoints of a run: written in the background, the newest kept, a damaged one passed over."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from engine.checkpoint import torch_file
from engine.checkpoint.format import Checkpoint, load
from engine.checkpoint.torch_file import DamagedError
from loaders.errors import InputError
from loaders.ranges import POSITIVE, Range, check_ranges
from loaders.system.files import appearing

LAST: Final = "last.pt"
"""The newest; the ones before it are last-1.pt, last-2.pt, ..."""
BEST: Final = "best.pt"
"""The one with the lowest validation metric."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Which checkpoints a run leaves."""

    every: int = 500
    """Interval of checkpoints (steps); the end of every epoch has one as well."""
    minutes: float = 10.0
    """Longest time without a checkpoint (minutes)."""
    keep: int = 2
    """How many of the newest stay: last.pt, last-1.pt, ... (checkpoints); best.pt stays in any case."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "checkpoint.", every=Range(1), minutes=POSITIVE, keep=Range(1))


class Checkpointer:
    """Writes checkpoints in a thread of its own, from a copy: training waits for the copy alone."""

    def __init__(self, run_dir: Path, config: CheckpointConfig, *, on: bool = True) -> None:
        """Write into ``run_dir``; one that is off (not the main process) only remembers what the main one wrote."""
        self._run_dir = run_dir
        self._config = config
        self._on = on
        self.saved_step: int | None = None
        """Step of the checkpoint that was given last, or that the run resumed from."""
        self._saved_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._newest: int | None = None
        """Step of the one that this object wrote last."""

    def due(self, step: int) -> bool:
        """Whether every process is to save at this step."""
        return step % self._config.every == 0

    def overdue(self) -> bool:
        """Whether this process wants a checkpoint because of the time that has passed."""
        return self._on and time.monotonic() - self._saved_at > 60 * self._config.minutes

    def write(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Copy a checkpoint and begin to write it, after the one before. Raises OSError if that one failed.

        Args:
            checkpoint: its tensors may change as soon as this returns.
            best: keep it as the best one, too.
        """
        if self._on:
            self.wait()
            self._writing = self._thread.submit(self._write, _copy_to_host(checkpoint.to_file()), best)
        self.saved_step = checkpoint.step
        self._saved_at = time.monotonic()

    def remedy(self, step: int) -> str:
        """Return what to do about a loss that is not finite at ``step``."""
        last = self._run_dir / LAST
        how = "with a lower optim.lr, with optim.max_grad_norm, or in --precision bf16 or fp32"
        if self.saved_step is not None and self.saved_step < step - 1:
            return f"continue from {last} by --resume {how}"
        if self.saved_step and any(path != last for path in checkpoints(self._run_dir)):
            # a lower rate does not help weights that are too large already
            return f"{last} is from just before: remove it, and continue from an older one by --resume {how}"
        return f"begin a new run {how}"

    def wait(self) -> None:
        """Return when everything is on the disk. Raises OSError if it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """As `wait`, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(self, content: dict[str, Any], best: bool) -> None:
        with appearing(self._run_dir / LAST) as temporary:
            torch_file.write(temporary, content)
            if best:  # before last.pt, which says that it is there
                _publish_copy(temporary, self._run_dir / BEST)
            if content["step"] != self._newest:  # else it replaces the same step's, evaluated meanwhile
                self._make_room()
        self._newest = content["step"]

    def _make_room(self) -> None:
        age = self._config.keep
        while (stale := _path(self._run_dir, age)).exists():  # more were kept once
            stale.unlink()
            age += 1
        for age in range(self._config.keep - 1, 0, -1):
            if (newer := _path(self._run_dir, age - 1)).exists():
                newer.replace(_path(self._run_dir, age))


def checkpoints(run_dir: Path) -> list[Path]:
    """Return a run's checkpoints but for the best one; the one that was written last is the first."""
    last = _path(run_dir, 0)
    return [*([last] if last.exists() else []), *run_dir.glob("last-*.pt")]


def load_newest(run_dir: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return a run's newest checkpoint that is whole, and what is wrong with others; None if it has none yet.

    Where last.pt is not whole, all others are read: neither their names nor the times of files that were copied say
    which one is the newest.

    Raises:
        InputError: all are damaged, or one is no checkpoint of this program.
    """
    newest: Checkpoint | None = None
    faults: list[str] = []
    for path in checkpoints(run_dir):
        try:
            checkpoint = load(path)
        except DamagedError as fault:
            faults.append(str(fault))
            continue
        if newest is None or checkpoint.step > newest.step:
            newest = checkpoint
        if path.name == LAST:
            break
    if faults and newest is None:
        best = run_dir / BEST
        remedy = f"begin a new run with --load-2d or --load-3d {best}" if best.exists() else "begin a new run"
        raise InputError(f"{faults[0]}; {run_dir} has no other checkpoint to continue from: {remedy}")
    return newest, faults


def _copy_to_host(value: Any) -> Any:
    """Return a copy, in host memory, of tensors in nested dictionaries and lists."""
    copied = _copy(value)
    if torch.cuda.is_initialized():  # else waiting would take a GPU that nobody uses
        torch.cuda.synchronize()  # the copies ran side by side
    return copied


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", non_blocking=True, copy=True)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value


def _publish_copy(source: Path, path: Path) -> None:
    with appearing(path) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:  # some file systems have no links
            shutil.copyfile(source, temporary)


def _path(run_dir: Path, age: int) -> Path:
    return run_dir / (f"last-{age}.pt" if age else LAST)
