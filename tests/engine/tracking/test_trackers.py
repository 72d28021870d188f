"""Runs that log to real trackers, without a network, and what these have stored, as their own formats say it."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.config import parse_train
from engine.distributed import Process
from engine.training.trainer import Trainer
from tests.engine.training_runs import finish, flags, read_metrics, run, start
from tests.shard_factory import make_shard_set

pytestmark = [pytest.mark.slow, pytest.mark.network]

Numbers = dict[tuple[int, str], list[float]]
"""Step and name -> the values that were logged, in order."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("trackers") / "shards", {"train": 8, "val": 4}, image_size=64)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Keep the trackers away from the network and from the user's own data."""
    settings = {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": f"{tmp_path}/trackio",
        "HOME": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def train(shards: Path, run_dir: Path, steps: int, *more: str) -> str:
    return finish(start(flags(shards, run_dir, "train3d", "--epochs", str(steps // 2), *more)))


def logged(run_dir: Path) -> Numbers:
    numbers: Numbers = {}
    for entry in read_metrics(run_dir / "metrics.jsonl"):
        step = entry.pop("step")
        for name, value in entry.items():
            numbers.setdefault((step, name), []).append(value)
    return numbers


def wandb_records(path: Path) -> list[Any]:
    """Return what a .wandb file holds: 7 bytes of head, then blocks of 32 KiB with pieces of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, piece, records = path.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        piece += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # the whole of it, or its end
            records.append(Record.FromString(piece))
            piece = b""
    return records


def stored_by_wandb(run_dir: Path, _: Path) -> tuple[Numbers, dict[str, Any], int]:
    numbers, config, images = {}, {}, 0
    ids = set()
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        for record in wandb_records(path):
            if record.HasField("run"):
                ids.add((record.run.run_id, record.run.display_name, record.run.project))
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.HasField("history"):
                row = {tuple(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                step = row.pop(("step",))
                images += row.get(("val/examples", "_type")) == "image-file"
                for (name, *below), value in row.items():
                    if not below and not name.startswith("_"):
                        numbers.setdefault((step, name), []).append(value)
    assert ids == {(json.loads((run_dir / "trackers.json").read_text())["wandb"], "one", "egopose")}
    return numbers, config, images


def stored_by_mlflow(run_dir: Path, home: Path) -> tuple[Numbers, dict[str, Any], int]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("egopose")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    numbers: Numbers = {}
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            numbers.setdefault((metric.step, name), []).append(metric.value)
    files = run_dir.parent / "mlruns" / run.info.run_id / "artifacts"
    assert json.loads((files / "summary.json").read_text()) == json.loads((run_dir / "summary.json").read_text())
    return numbers, run.data.params, len(list(files.glob("images/*.png")))


def stored_by_trackio(run_dir: Path, home: Path) -> tuple[Numbers, dict[str, Any], int]:
    (database,) = home.glob("trackio/*.db")
    numbers, images = {}, 0
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        (config,) = connection.execute("SELECT config FROM configs").fetchone()
    assert len({(run_id, name) for run_id, name, *_ in rows}) == 1
    for _, _, step, metrics in rows:
        for name, value in json.loads(metrics).items():
            if isinstance(value, dict):
                images += value["_type"] == "trackio.image"
            else:
                numbers.setdefault((step, name), []).append(value)
    return numbers, json.loads(config), images


STORED = {"wandb": stored_by_wandb, "mlflow": stored_by_mlflow, "trackio": stored_by_trackio}


@pytest.mark.parametrize("tracker", STORED)
def test_a_tracker_has_what_metrics_jsonl_has_also_of_a_resumed_run(tmp_path, monkeypatch, home, shards, tracker):
    pytest.importorskip(tracker)
    run_dir = tmp_path / "one"
    said = train(shards, run_dir, 4, "--log.to", tracker)
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in said.splitlines()), said  # none of its own words
    assert f" {tracker}: " in said
    shutil.copy(run_dir / "last.pt", tmp_path)
    first = logged(run_dir)
    train(shards, run_dir, 8, "--log.to", tracker, "--resume")
    numbers, config, images = STORED[tracker](run_dir, home)
    assert numbers == {key: pytest.approx(values) for key, values in logged(run_dir).items()}
    assert numbers.keys() > first.keys()
    assert (str(config["optim.lr"]), config["stage"]) == ("0.001", "train3d")
    assert images == len([name for _, name in numbers if name == "val/loss"])
    assert not list(run_dir.glob("events*"))
    # as after a crash: the steps from the checkpoint on are logged again, beside what was logged of them
    for path in (run_dir / "last.pt", run_dir / "last-1.pt", run_dir / "best.pt"):
        path.unlink(missing_ok=True)
    shutil.copy(tmp_path / "last.pt", run_dir)
    train(shards, run_dir, 8, "--log.to", tracker, "--resume")
    numbers, _, _ = STORED[tracker](run_dir, home)
    assert {key: values[-1:] for key, values in numbers.items()} == {
        key: pytest.approx(values) for key, values in logged(run_dir).items()
    }
    assert len(numbers[8, "train/loss"]) == 2


def test_a_tracker_that_fails_in_the_middle_ends_no_run(tmp_path, caplog, home, shards):
    pytest.importorskip("mlflow")
    config = parse_train(
        flags(shards, tmp_path / "one", "train3d", "--epochs", "3", "--log.to", "tensorboard", "mlflow")
    )
    trainer = Trainer(config, Process(0, 1, torch.device("cpu")))
    os.truncate(home / "mlflow.db", 0)
    assert trainer.fit() == 0
    trainer.close()
    ours = [record for record in caplog.records if record.name.startswith("engine")]
    (warning,) = (record.getMessage() for record in ours if record.levelno > logging.INFO)
    assert warning.startswith("mlflow gets no more of this run, which goes on: ")
    assert [step for step, name in logged(tmp_path / "one") if name == "train/loss"] == [2, 4, 6]
    board = EventAccumulator(str(tmp_path / "one"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [2, 4, 6]
    assert (tmp_path / "one/summary.json").exists()


def test_a_tracker_that_cannot_begin_is_an_error_and_one_that_cannot_go_on_a_warning(
    tmp_path, monkeypatch, capsys, home, shards
):
    pytest.importorskip("mlflow")
    away = f"sqlite:///{Path(__file__)}/mlflow.db"  # no folder
    arguments = flags(shards, tmp_path / "one", "train3d", "--log.to", "mlflow")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", away)
        assert run(monkeypatch, *arguments, "--epochs", "1") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "mlflow does not begin a run (" in line
    assert line.endswith("see that MLFLOW_TRACKING_URI is right, or leave it out of --log.to")
    assert run(monkeypatch, *arguments, "--epochs", "1") == 0  # without --resume: nothing had begun
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    assert run(monkeypatch, *arguments, "--epochs", "2", "--resume") == 0
    assert "warning: mlflow gets nothing of this run from here on: " in capsys.readouterr().err
    assert (4, "train/loss") in logged(tmp_path / "one")


@pytest.mark.parametrize("tracker", STORED)
def test_a_tracker_that_is_not_installed_is_named_with_the_remedy(tmp_path, monkeypatch, capsys, tracker):
    monkeypatch.setitem(sys.modules, tracker, None)  # no import finds it then
    assert run(monkeypatch, *flags(tmp_path, tmp_path / "run", "train3d", "--log.to", "tensorboard", tracker)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: error: log.to {tracker} needs a package that is missing: pip install {tracker}")
    assert not (tmp_path / "run").exists()


def test_without_trackers_a_run_leaves_its_own_files_alone(tmp_path, monkeypatch, shards):
    assert run(monkeypatch, *flags(shards, tmp_path, "train3d", "--epochs", "1", "--log.to")) == 0
    names = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert names == {"config.yaml", "metrics.jsonl", "summary.json", "last.pt", "last-1.pt", "best.pt"}
