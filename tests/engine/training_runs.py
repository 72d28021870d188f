"""Training runs as a user starts them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.distributed import Process, join_processes
from engine.train import main

SMALL = ("--data.batch-size", "4", "--model.backbone", "resnet18", "--log-every", "2", "--data.threads", "1")
SMALL += ("--precision", "fp32")
"""The type that every machine computes in natively: the same numbers, and no waiting for emulation."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a metrics.jsonl; a line cut short by a crash is skipped."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def flags(shards: Path, run_dir: Path, stage: str, *more: str) -> list[str]:
    return ["--stage", stage, "--data.shards", str(shards), "--run-dir", str(run_dir), *SMALL, *more]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Train in this process and return the exit status."""
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    return main()


def start(arguments: list[str], processes: int = 0, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a run; with ``processes`` or flags for the ``launcher`` under torchrun."""
    if processes:
        launcher = ("--standalone", "--nproc-per-node", str(processes), *launcher)
    prefix = ["-m", "torch.distributed.run", *launcher] if launcher else []
    return subprocess.Popen(
        [sys.executable, *prefix, "engine/train.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str], timeout: float = 240) -> str:
    """Wait for a run that succeeds and return what it said."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, output
    return output


def weights(run_dir: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    model = checkpoint.load(run_dir / name).weights
    return {f"{net}.{key}": tensor for net, state in model.items() for key, tensor in state.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def joined(rank: int, port: int, timeout: float = 60) -> Iterator[Process]:
    """Be one of two processes."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join_processes("cpu", timeout) as process:
        yield process
