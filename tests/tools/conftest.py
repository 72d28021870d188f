from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.archive_factory import SUBJECTS, frames_of, split_into, tar_of
from tests.tools.shard_runs import make
from tests.tools.tiny_dataset import TinyDataset, make_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), 5, environments=("env_001", "env 02"))


@pytest.fixture(scope="session")
def shards(dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shards") / "set"
    assert make(dataset.root, output, "--samples-per-shard", "4") == 0
    return output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for subject in SUBJECTS:
        split_into(folder, subject, tar_of(frames_of(subject)), 4)
    return folder
