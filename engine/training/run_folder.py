"""A run folder is one run's: nobody else writes there meanwhile, and nothing that it holds is lost by a mistake."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from engine.checkpoint.checkpointer import BEST, LAST, checkpoints
from engine.cli.forecast import Destination
from engine.distributed import Process
from loaders.errors import InputError
from loaders.system.locks import locked
from loaders.system.os_errors import in_words

CONFIG: Final = "config.yaml"
METRICS: Final = "metrics.jsonl"
SUMMARY: Final = "summary.json"

_LOCK: Final = ".lock"


@contextlib.contextmanager
def claimed(run_dir: Path, process: Process, *, resume: bool) -> Iterator[None]:
    """Keep other runs out of a folder, which the main process alone looks at; every process must call it.

    Raises:
        InputError: on all processes: another run is at work, or this one would write over what the folder holds.
    """
    with contextlib.ExitStack() as lock:

        def claim() -> None:
            lock.enter_context(locked(run_dir, flag="--run-dir", file=_LOCK))
            check_content(run_dir, resume=resume)
            process.begin()

        _on_main(claim, process)
        yield


@contextlib.contextmanager
def inspected(run_dir: Path, process: Process, *, resume: bool) -> Iterator[None]:
    """As `claimed`, for a run that writes nothing: raise what that would raise, and leave the folder to others."""

    def inspect() -> None:
        Destination(run_dir, "--run-dir").check(_LOCK)
        check_content(run_dir, resume=resume)

    _on_main(inspect, process)
    yield


def _on_main(look: Callable[[], None], process: Process) -> None:
    """Look at the folder on the main process; raise InputError on all of them if that refuses it."""
    refusal = None
    if process.is_main:
        try:
            look()
        except InputError as error:
            refusal = str(error)
        except OSError as error:
            refusal = in_words(error)
    if refusal := process.from_main(refusal):
        raise InputError(refusal)


def check_content(run_dir: Path, *, resume: bool) -> None:
    """Raise InputError if a run in this folder would write over another one.

    Args:
        run_dir: the folder.
        resume: whether it goes on from the newest checkpoint there. A run writes one before anything else, so where
            there is none, but a log or a best checkpoint, some files were lost or not copied.
    """
    best, last, log = (run_dir / name for name in (BEST, LAST, METRICS))
    logged = log.exists() and log.stat().st_size > 0
    if not resume:
        if (run_dir / CONFIG).exists() or logged or best.exists() or checkpoints(run_dir):
            raise InputError(f"{run_dir} already holds a run: add --resume to continue it, or give another folder")
    elif not checkpoints(run_dir):
        if best.exists():
            raise InputError(
                f"{run_dir} has no {LAST} to continue from, but a {BEST}: copy {best} to {last} to go on from there "
                f"(what was logged after it goes), or begin a new run from its weights: {from_weights(best)}"
            )
        if logged:
            raise InputError(
                f"{run_dir} has no {LAST} to continue from, but a log: copy {LAST} there, or give another --run-dir"
            )


def from_weights(path: Path) -> str:
    """Return the flags that begin a run with a checkpoint's weights."""
    return f"another --run-dir with --load {path}"
