"""Running ``tools.shard`` and ``tools.verify``, looking at what was written, and changing it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from loaders.format import manifest
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from tools import shard, verify

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


def skipped(output: Path, split: str = "train") -> dict[tuple[str, int], str]:
    return {(frame.environment, frame.frame): frame.reason for frame in Manifest.read(output).splits[split].skipped}


def numpy_of(content: bytes) -> Any:
    return np.load(io.BytesIO(content))


def check(shards: Path, *flags: str) -> int:
    """Run ``tools.verify``."""
    return verify.main(["--shards", str(shards), "--workers", "1", *flags])


def accept_bytes(shards: Path, name: str = "train-000000.tar") -> None:
    """Make the manifest agree with a shard as it is now, so that only deeper checks can find what is wrong."""
    content = (shards / "train" / name).read_bytes()
    said = Manifest.read(shards)
    split = said.splits["train"]
    altered = tuple(
        dataclasses.replace(shard, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        if shard.name == name
        else shard
        for shard in split.shards
    )
    splits = {**said.splits, "train": dataclasses.replace(split, shards=altered)}
    (shards / manifest.FILE_NAME).write_text(dataclasses.replace(said, splits=splits).to_json())


def overwrite(shards: Path, member: str, change: bytes, at: int = 0) -> None:
    """Change bytes of the first sample's member in place."""
    split = ShardSet(shards, "train")
    offset = int(split._spans[0, split.members.index(member), 0])
    with (shards / "train" / "train-000000.tar").open("r+b") as stream:
        stream.seek(offset + at)
        stream.write(change)
    accept_bytes(shards)
