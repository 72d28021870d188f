"""What a run finds out before its first step."""

import dataclasses

import numpy as np
import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.config import parse_train
from engine.distributed import Process
from engine.loaded_model import read_model
from engine.training import run
from engine.training.trainer import Trainer
from loaders import ShardSet
from models.head import HeadPosition
from models.xr_egopose import HEAD
from tests.engine.training_runs import flags
from tests.shard_factory import make_shard_set

CPU = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("run") / "shards", {"train": 16, "val": 4}, image_size=64)


def trained(shards, run_dir, *more):
    """Train and return the newest checkpoint."""
    trainer = Trainer(parse_train(flags(shards, run_dir, "train3d", *more)), CPU)
    assert trainer.fit() == 0
    trainer.close()
    return checkpoint.load(run_dir / "last.pt")


def test_checkpoints_say_where_the_head_is_in_the_training_split(tmp_path, shards):
    found = trained(shards, tmp_path / "run", "--max-steps", "2", "--data.augment.rotation", "30")
    head = ShardSet(shards, "train").labels()[0][:, HEAD, 2:].astype(float)
    np.testing.assert_allclose(found.head["mean"], head.mean(0), atol=1e-9)
    np.testing.assert_allclose(found.head["spread"], head.std(0), atol=1e-9)
    assert min(found.head["spread"]) > 0.01
    loaded = read_model(tmp_path / "run" / "best.pt", torch.device("cpu"))
    assert loaded.head == HeadPosition(**found.head)
    again = trained(shards, tmp_path / "run", "--max-steps", "4", "--resume")
    assert (again.step, again.head) == (4, found.head)


def test_a_resumed_run_keeps_what_its_checkpoint_says_and_adds_what_an_older_one_lacks(tmp_path, shards):
    found = trained(shards, tmp_path / "run", "--max-steps", "2")
    known = {"mean": (1.0, 2.0, 3.0), "spread": (0.0, 0.0, 0.0)}
    checkpoint.save(tmp_path / "run" / "last.pt", dataclasses.replace(found, head=known))
    assert trained(shards, tmp_path / "run", "--max-steps", "3", "--resume").head == known
    checkpoint.save(tmp_path / "run" / "last.pt", dataclasses.replace(found, head=None))
    assert trained(shards, tmp_path / "run", "--max-steps", "4", "--resume").head == found.head


def test_evenly_spaced_samples_stand_for_a_large_split(monkeypatch, shards):
    monkeypatch.setattr(run, "_HEAD_SAMPLES", 6)
    head = ShardSet(shards, "train").labels()[0][::3, HEAD, 2:].astype(float)
    np.testing.assert_allclose(run._find_head(ShardSet(shards, "train"))["mean"], head.mean(0), atol=1e-9)


def test_labels_that_are_elsewhere_leave_it_unknown(caplog, shards):
    caplog.set_level("INFO")
    assert run._find_head(ShardSet(shards, "train", remote="s3://bucket/set")) is None
    assert "data.remote" in caplog.text
