from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.shard_runs import ROOT, make, tree
from tests.tools.tiny_dataset import TinyDataset


def test_a_cluster_writes_the_same_bytes(
    dataset: TinyDataset, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with distributed.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert make(dataset.root, tmp_path / "set", "--samples-per-shard", "4", "--scheduler", address) == 0
    assert tree(tmp_path / "set") == tree(shards)


def test_a_scheduler_that_does_not_answer_is_one_line(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("tools.parallel._CLUSTER_SECONDS", 1)
    assert make(dataset.root, tmp_path / "set", "--scheduler", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err
