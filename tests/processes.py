"""The worker processes of a command that runs as a process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def children_of(process: subprocess.Popen[Any]) -> list[int]:
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []  # it ended meanwhile
    return list(map(int, children))


def workers_of(process: subprocess.Popen[Any]) -> list[int]:
    return [pid for pid in children_of(process) if is_worker(pid)]


def is_worker(pid: int) -> bool:
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
