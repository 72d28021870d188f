"""Generated frames, their shards, and a network that was trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.train import main as train
from tools.shard import main as shard
from tools.synthesize import main as synthesize


@dataclass(frozen=True)
class World:
    dataset: Path
    shards: Path
    checkpoint: Path
    """Of finetune, 64 px; it knows these frames."""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    found = World(root / "dataset", root / "shards", root / "run" / "last.pt")
    subjects = ["--train-subjects", "3", "--val-subjects", "1", "--test-subjects", "1"]
    made = ["--frames-per-subject", "12", "--modalities", "rgba", "json", "--workers", "1"]
    assert synthesize(["--output", str(found.dataset), *subjects, *made]) == 0
    made = ["--components", "rgba", "json", "--image-size", "64"]
    assert shard(["--root", str(found.dataset), "--output", str(found.shards), *made]) == 0
    flags = ["--stage", "finetune", "--data.shards", str(found.shards), "--run-dir", str(found.checkpoint.parent)]
    flags += ["--model.backbone", "resnet18", "--data.batch-size", "12", "--epochs", "20", "--validate-every", "20"]
    flags += ["--loss.pose", "1", "--loss.bone", "0", "--precision", "fp32"]
    assert train(flags) == 0
    return found
