from __future__ import annotations

from pathlib import Path

import pytest

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
