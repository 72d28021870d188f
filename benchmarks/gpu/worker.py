"""A process that does the suite's steps one after another; one that fails or hangs takes only itself along."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.gpu.setting import Setting
from loaders.errors import Failure

_GRACE: Final = 5.0
"""How long a worker that has nothing to do may take to end (seconds)."""


class Worker:
    """Does steps in another process, which is started when it is needed and again after each failure."""

    def __init__(self, setting: Setting, logs: Path) -> None:
        """Write what the steps print into ``logs``."""
        self._setting = setting
        self._logs = logs
        self._process: Any = None
        self._pipe: Connection | None = None
        self._busy = False

    def do(self, step: str, seconds: float) -> dict[str, Any]:
        """Return what a step found. Raises Failure if it fails or takes longer than ``seconds``."""
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        self._busy = True
        self._pipe.send(step)
        try:
            if not self._pipe.poll(seconds):
                self._end()
                raise Failure(f"not done within {seconds:.0f} s")
            found, fault = self._pipe.recv()
            self._busy = False
        except (EOFError, OSError):
            self._busy = False  # it has ended, and says how
            raise Failure(f"its process ended with status {self._end()}") from None
        if fault:
            self._end()
            raise Failure(fault)
        result: dict[str, Any] = found
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._setting, self._logs), name="gpu-suite")
        self._process.start()
        theirs.close()

    def _end(self) -> int | None:
        assert self._pipe is not None
        self._pipe.close()
        self._process.join(0 if self._busy else _GRACE)
        # its group: a step's own processes end with it
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # it may not have had a group yet
        self._process.join()
        status: int | None = self._process.exitcode
        self._process = None
        return status


def _serve(pipe: Connection, setting: Setting, logs: Path) -> None:
    os.setpgid(0, 0)
    from benchmarks.gpu.steps import steps  # noqa: PLC0415 - imports what only this process needs

    todo = {step.name: step for step in steps()}
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        found, fault = None, ""
        with _printing_into(logs / f"{file_name(name)}.log"):
            try:
                found = todo[name].run(setting)
            except BaseException as error:
                traceback.print_exc()
                fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            pipe.send((found, fault))
        gc.collect()
        torch.compiler.reset()
        if setting.gpu and not fault:
            torch.cuda.empty_cache()


def file_name(step: str) -> str:
    """Return a step's name as a file can have it."""
    return "".join(letter if letter.isalnum() else "-" for letter in step)


@contextlib.contextmanager
def _printing_into(path: Path) -> Iterator[None]:
    """Let this process, and those that it starts, print into a file."""
    with path.open("w", encoding="utf-8") as log:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(log.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
