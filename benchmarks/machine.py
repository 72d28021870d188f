"""What a result was measured on: hardware, versions, commit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from loaders.system.cores import available_cores

ROOT: Final = Path(__file__).resolve().parent.parent

_PACKAGES: Final = (
    "torch",
    "torchvision",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "numpy",
    "opencv-python-headless",
    "kornia-rs",
    "numba",
    "webdataset",
    "scikit-image",
    "ffcv",
    "spdl-core",
    "spdl-io",
)


def origin(program: str) -> dict[str, Any]:
    """Return when, how, of which commit and on what the module ``program`` is run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(program),
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }


def hardware() -> dict[str, Any]:
    """Return the processor, its cores, memory and GPU."""
    found: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": None,
    }
    import torch  # noqa: PLC0415 - worker processes that import a benchmark need no torch

    if torch.cuda.is_available():
        found["gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        found["cuda"] = torch.version.cuda
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter; of DALI's builds, the one that is there."""
    found = versions_of(_PACKAGES)
    absent = {name: "absent" for name in _PACKAGES if name not in found and not name.startswith("nvidia-dali")}
    return {"python": platform.python_version(), **found, **absent}


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str:
    """Return the commit, with a plus if tracked files were changed since."""
    head, changed = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if head is None or changed is None:
        return "unknown"
    return f"{head} with changes" if changed else head


def command_line(program: str) -> str:
    """Return what was typed; of paths only the last name."""
    arguments = [Path(argument).name if os.sep in argument else argument for argument in sys.argv[1:]]
    return " ".join(["python -m", program, *arguments])


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
