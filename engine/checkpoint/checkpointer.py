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


_WITH_VALIDATION: Final = 0.1
"""Share of `CheckpointConfig.minutes` after which a validation has a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Which checkpoints a run leaves beside the first, the last, and the one where a signal stops it."""

    minutes: float = 10.0
    """Longest time without a checkpoint (minutes). A validation has one after a tenth of it; if it comes earlier and is
    the best so far, its weights wait in memory for the next checkpoint. None begins while another one is written."""
    every: int | None = None
    """Most steps without a checkpoint, for runs that are to count them as well (steps)."""
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
        self._last_copy, self._best_copy = HostCopy(), HostCopy()
        self._waiting: dict[str, Any] | None = None
        """The best one, while only memory holds it."""
        self._writing_best_copy = False

    def due(self, step: int, *, validated: bool = False) -> bool:
        """Whether this process wants a checkpoint of this step, which was ``validated`` or not."""
        if not self._on or (self._writing is not None and not self._writing.done()):
            return False
        every, seconds = self._config.every, 60 * self._config.minutes * (_WITH_VALIDATION if validated else 1)
        enough_steps = every is not None and step - (self.saved_step or 0) >= every
        return enough_steps or time.monotonic() - self._saved_at > seconds

    def write(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Copy a checkpoint and begin to write it, after the one before. Raises OSError if that one failed.

        Args:
            checkpoint: its tensors may change as soon as this returns.
            best: keep it as the best one, too.
        """
        if self._on:
            self.wait()
            waiting, self._waiting = self._waiting, None
            content = self._last_copy.of(checkpoint.to_file())
            best_content = content if best else waiting
            self._writing_best_copy = waiting is not None and not best
            self._writing = self._thread.submit(self._write, content, best_content)
        self.saved_step = checkpoint.step
        self._saved_at = time.monotonic()

    def hold_best(self, checkpoint: Checkpoint) -> None:
        """Copy the best checkpoint so far, to be written with the next one. Raises OSError if one before failed."""
        if self._on:
            if self._writing_best_copy:
                self.wait()
            self._waiting = self._best_copy.of(checkpoint.to_file())

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
        """As `wait`, with the best one if it is in memory still, as in a run that fails; end thread, free memory."""
        try:
            self.wait()
            if self._waiting is not None:
                self._write_best(self._waiting)
        finally:
            self._thread.shutdown()
            self._waiting = None
            self._last_copy, self._best_copy = HostCopy(), HostCopy()

    def _write(self, content: dict[str, Any], best: dict[str, Any] | None) -> None:
        # the best one before last.pt, which says that it is there
        if best is not None and best is not content:
            self._write_best(best)
        with appearing(self._run_dir / LAST) as temporary:
            torch_file.write(temporary, content)
            if best is content:
                _publish_copy(temporary, self._run_dir / BEST)
            if content["step"] != self._newest:  # else it replaces the same step's, evaluated meanwhile
                self._make_room()
        self._newest = content["step"]

    def _write_best(self, content: dict[str, Any]) -> None:
        with appearing(self._run_dir / BEST) as temporary:
            torch_file.write(temporary, content)

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
        remedy = f"begin a new run with --load {best}" if best.exists() else "begin a new run"
        raise InputError(f"{faults[0]}; {run_dir} has no other checkpoint to continue from: {remedy}")
    return newest, faults


class HostCopy:
    """Host memory for one checkpoint, used again for the next: finding pinned memory takes longer than copying."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Tensor] = {}
        """Device and place of a tensor in what was copied last -> its copy."""

    def of(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of nested dictionaries and lists, in host memory; it overwrites the one before.

        Waits for the device once. Copies of a GPU's tensors are pinned.
        """
        before, self._kept = self._kept, {}
        copied: dict[str, Any] = self._copy(content, (), before)
        if any(device == "cuda" for device, *_ in self._kept):
            torch.cuda.current_stream().synchronize()  # the copies ran side by side
        return copied

    def _copy(self, value: Any, place: tuple[Any, ...], before: dict[tuple[Any, ...], Tensor]) -> Any:
        if isinstance(value, Tensor):
            key = (value.device.type, *place)
            copy = before.get(key)
            if copy is None or (copy.shape, copy.dtype) != (value.shape, value.dtype):
                copy = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
            self._kept[key] = copy
            return copy.copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return {key: self._copy(item, (*place, key), before) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item, (*place, i), before) for i, item in enumerate(value))
        return value


def _publish_copy(source: Path, path: Path) -> None:
    with appearing(path) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:  # some file systems have no links
            shutil.copyfile(source, temporary)


def _path(run_dir: Path, age: int) -> Path:
    return run_dir / (f"last-{age}.pt" if age else LAST)
