"""What a process that fails leaves beside its run, on the machine where it ran."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from loaders.errors import InputError, printable

FOLDER: Final = "errors"
"""In the run folder; a run without a failure has none."""
_TRACE: Final = "nccl-trace-"
"""Beginning of the names of NCCL's traces; the rank is the rest."""


class ErrorLog:
    """Writes ``errors/rank-R.log`` in a run folder if this process fails, and what NCCL did last where it is in use.

    A further failure, after a restart, is appended.
    """

    def __init__(self, run_dir: Path | None) -> None:
        """Write into a run folder; nowhere if it is None."""
        self._folder = None if run_dir is None else run_dir / FOLDER
        self._rank = os.environ.get("RANK", "0")
        self._step: Callable[[], int] | None = None
        self._kept_for_nccl = False

    def trace_nccl(self) -> None:
        """Have NCCL's flight recorder write here; to be called before NCCL is initialized.

        It writes by itself where NCCL notices a failure, and then ends the process.
        """
        if self._folder is None:
            return
        if "TORCH_NCCL_DEBUG_INFO_TEMP_FILE" not in os.environ:  # the older name of the next one
            os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(self._folder.absolute() / _TRACE))
        os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
        self._kept_for_nccl = True

    def begin(self, step: Callable[[], int]) -> None:
        """Note that the run folder is this run's from now on; ``step`` tells how far it is."""
        self._step = step
        if self._kept_for_nccl and self._folder is not None:  # it writes into a folder that exists
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, error: Exception) -> None:
        """Write how this process failed, and add to the error where that stands.

        Bad input leaves nothing: its line says all, and the folder may be another run's. Where nothing can be written,
        the error stays the only one.
        """
        if self._folder is None or isinstance(error, InputError):
            return
        path = self._folder / f"rank-{self._rank}.log"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self._account(error))
            if dist.is_initialized() and dist.get_backend() == "nccl":
                trace = torch._C._distributed_c10d._dump_nccl_trace()  # type: ignore[attr-defined]
                (self._folder / f"{_TRACE}{self._rank}").write_bytes(trace)
        except OSError:
            return
        error.add_note(f"log on {socket.gethostname()}: {path}")

    def close(self) -> None:
        """Remove the folder if nothing is in it."""
        if self._kept_for_nccl and self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _account(self, error: Exception) -> str:
        number, restarts = os.environ.get("WORLD_SIZE", "1"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        nccl = f", NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}" if torch.cuda.is_initialized() else ""
        lines = {
            "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "host": socket.gethostname(),
            "process": f"{self._rank} of {number}, after {restarts} restarts of this node",
            "step": str(self._step()) if self._step else "before the first",
            "error": printable(f"{type(error).__name__}: {error}"),
            "versions": f"egopose-engine {importlib.metadata.version('egopose-engine')}, "
            f"Python {platform.python_version()}, torch {torch.__version__}{nccl}",
            "command": shlex.join(sys.argv),
        }
        said = "".join(f"{name}: {value}\n" for name, value in lines.items())
        return said + "".join(traceback.format_exception(error)) + "\n"
