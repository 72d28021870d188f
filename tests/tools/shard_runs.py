"""Running ``tools.shard``, and looking at what it wrote."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from loaders.manifest import Manifest
from tools import shard

ROOT = Path(__file__).parents[2]


def make(root: Path, output: Path, *flags: str, workers: int = 1) -> int:
    return shard.main(["--root", str(root), "--output", str(output), "--workers", str(workers), *flags])


def command(root: Path, output: Path, *flags: str) -> list[str]:
    """The same as a process of its own, to be started in ROOT."""
    return [sys.executable, "-m", "tools.shard", "--root", str(root), "--output", str(output), *flags]


def tree(folder: Path) -> dict[str, str]:
    """Name and checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def modified(folder: Path) -> dict[str, int]:
    """When each shard of the training split was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("train/*.tar")}


def left_out(output: Path, split: str = "train") -> dict[tuple[str, int], str]:
    return {(frame.environment, frame.frame): frame.reason for frame in Manifest.read(output).splits[split].left_out}


def numpy_of(content: bytes) -> Any:
    return np.load(io.BytesIO(content))
