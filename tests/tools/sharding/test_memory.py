from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loaders.format.manifest import Manifest
from tests.tools.shard_runs import ROOT
from tests.tools.tiny_dataset import make_dataset

pytestmark = pytest.mark.slow

LIMIT = 400 * 2**20

RUN = """
import json, re, resource, sys
from pathlib import Path
from tools import shard
status = shard.main(sys.argv[1:])
own = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"status": status, "peaks": [1024 * int(own[1]), 1024 * workers]}))
"""


def peaks(root: Path, output: Path) -> tuple[int, int]:
    """Shard with two workers; return the most memory the command and its largest worker ever held (bytes)."""
    flags = ["--root", str(root), "--output", str(output), "--components", "rgba", "json"]
    sizes = ["--workers", "2", "--image-size", "32", "--samples-per-shard", "1024"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *flags, *sizes], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["status"] == 0
    own, worker = said["peaks"]
    return own, worker


def test_memory_is_bounded_whatever_the_number_of_frames(tmp_path: Path) -> None:
    few = make_dataset(tmp_path / "few", 5, modalities=("rgba", "json"), rot=False)
    many = tmp_path / "many"
    for recording in few.recordings:
        for modality in ("rgba", "json"):
            folder = many / recording.path.relative_to(few.root) / modality
            folder.mkdir(parents=True)
            for number in range(5000):
                source = recording.file(modality, 1 + number % 5)
                os.link(source, folder / recording.file(modality, 1 + number).name)
    command_10, worker_10 = peaks(few.root, tmp_path / "shards-10")
    command_10000, worker_10000 = peaks(many, tmp_path / "shards-10000")
    assert sum(split.samples for split in Manifest.read(tmp_path / "shards-10000").splits.values()) == 10_000
    assert max(command_10, worker_10, command_10000, worker_10000) < LIMIT
    assert worker_10000 < worker_10 + 20 * 2**20
    assert command_10000 < command_10 + 50 * 2**20
