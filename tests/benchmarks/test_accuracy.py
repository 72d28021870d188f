"""Both ways train all stages, evaluate as often as they are told and off the clock, and are compared."""

import itertools
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, data
from benchmarks.curves import ours, reference
from benchmarks.curves.comparison import Goal
from benchmarks.curves.curve import Curve, Point, Task
from engine.stages import STAGES, ModelConfig
from engine.training.validation import Validation
from loaders import DataConfig, build_loader
from tests.benchmarks.result_files import check_result

pytestmark = pytest.mark.slow

SIDE = 64
STAGE_NAMES = ("train2d", "train3d", "finetune")
PAUSE = 2.0
"""Of an evaluation that is made slow (seconds)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("skimage")
    root = tmp_path_factory.mktemp("accuracy")
    data.synthesize(root / "dataset", 40)
    data.shard(root / "dataset", root / "shards", "jpeg", SIDE)
    return root


def way(name, folder, runs):
    if name == "ours":
        return ours.Ours(folder / "shards", runs, "resnet18", SIDE)
    return reference.Reference(folder / "dataset", folder / "shards", runs, "resnet18", SIDE)


def test_end_to_end(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    # each of six processes would import torch
    monkeypatch.setattr(accuracy, "train_in_new_process", lambda way, task: way.train(task, time.monotonic()))
    size = ["--subjects", "1", "--frames", "4", "--val-frames", "1", "--image-size", str(SIDE), "--every", "16"]
    ends = ["--epochs", "1", "1", "1", "--error-px", "1000", "--mpjpe-mm", "0.001", "--limits", "0", "0"]
    assert accuracy.main(["--repetitions", "1", *size, *ends, "--output", str(tmp_path)]) == 0
    content = check_result(tmp_path, "accuracy")
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "![accuracy](accuracy.png)" in (tmp_path / "accuracy.md").read_text()
    ways = {run["way"]: run["curves"] for run in content["curves"]}
    assert {name: list(curves) for name, curves in ways.items()} == {
        name: list(STAGE_NAMES) for name in ("ours", "reference way")
    }
    for curves in ways.values():
        for curve in curves.values():
            assert curve["images"][0] == 0
            assert curve["images"][-1] >= 16
            assert curve["seconds"] == sorted(curve["seconds"])
            assert np.isfinite(curve["error"]).all()
    rows = {row["what"]: row for row in content["rows"]}
    at_once = rows["train2d to 1000 px: seconds of the reference way over ours"]
    first = [ways[name]["train2d"]["seconds"][0] for name in ("reference way", "ours")]
    assert at_once["value"] == pytest.approx(first[0] / first[1], rel=0.1)
    never = rows["all stages to 0.001 mm: seconds of the reference way over ours"]
    assert (never["verdict"], never["reason"]) == ("missed", "ours did not reach it in 1 of 1 runs")

    earlier, again = ["--curves", str(tmp_path / "accuracy.json")], ["--output", str(tmp_path / "again")]
    assert accuracy.main(["--repetitions", "1", *earlier, "--mpjpe-mm", "100000", *again]) == 0
    held_anew = check_result(tmp_path / "again", "accuracy")
    assert held_anew["curves"] == content["curves"]
    assert {row["what"]: row for row in held_anew["rows"]}[
        "all stages to 100000 mm: seconds of the reference way over ours"
    ]["value"]
    assert accuracy.main(["--repetitions", "2", *earlier, *again]) == 2


class Elsewhere:
    """A way that says where and when it was started."""

    name = "elsewhere"

    def train(self, task, began):
        return os.getpid(), time.monotonic() - began


def test_a_stage_is_timed_from_the_start_of_its_process():
    before = time.monotonic()
    process, seconds = accuracy.train_in_new_process(Elsewhere(), Task("train2d", 1, 0, every=1))
    assert process != os.getpid()
    assert 0.01 < seconds <= time.monotonic() - before


def test_the_reference_way_gives_up_after_so_many_times_our_seconds(tmp_path, monkeypatch):
    tasks = []

    def train(way, task):
        tasks.append((way.name, task))
        seconds = 10.0 if way.name == "ours" else 70.0
        points = [Point(1.0, 0, 50.0), Point(seconds, 100, 20.0 if way.name == "ours" else 30.0)]
        return Curve(points, points[-1])

    monkeypatch.setattr(accuracy, "train_in_new_process", train)
    flags = accuracy.AccuracyFlags(limits=(11, 12), error_px=25, mpjpe_mm=25)
    goals = [Goal(STAGE_NAMES[:1], 25, "px"), Goal(STAGE_NAMES, 25, "mm")]
    trainings = accuracy.Trainings(flags, goals, tmp_path)
    _, its = trainings.ways
    for goal, seconds in zip(goals, (70, 210), strict=True):
        reading = trainings.reading(its, goal, iter([3]), None)
        assert (reading.items, reading.figures["did not reach it"]) == (seconds, 1)
    assert [(name, task.stage, task.epochs, task.seed, task.error) for name, task in tasks] == [
        (name, stage, epochs, 3, error)
        for name in ("ours", "reference way")
        for stage, epochs, error in zip(STAGE_NAMES, flags.epochs, (25, None, 25), strict=True)
    ]
    limits = {task.stage: task.limit for name, task in tasks if name == "reference way"}
    assert (limits["train2d"], limits["finetune"]) == (11 * 10, 12 * 30 - 140)


@pytest.mark.parametrize("name", ["ours", "reference way"])
def test_evaluations_are_off_the_clock(folder, tmp_path, monkeypatch, name):
    module = "engine.training.trainer" if name == "ours" else "benchmarks.curves.reference"
    taken = []

    def slowly(*given):
        time.sleep(PAUSE)
        taken.append(time.monotonic())
        return original(*given)

    original = reference.validate
    monkeypatch.setattr(f"{module}.validate", slowly)
    began = time.monotonic()
    curve = way(name, folder, tmp_path).train(Task("train2d", 1, 0, every=16), began)
    passed = time.monotonic() - began
    assert [point.images for point in curve.points][:3] == [0, 16, 32]
    assert curve.end == curve.points[-1]
    assert len(taken) == len(curve.points)
    assert curve.end.seconds < passed - PAUSE * len(taken)


def test_workers_rest_during_evaluations(folder, tmp_path, monkeypatch):
    states = []
    original = reference.validate

    def noting(*given):
        workers = multiprocessing.active_children()
        time.sleep(0.1)
        states.append([Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[0] for one in workers])
        return original(*given)

    monkeypatch.setattr(reference, "validate", noting)
    monkeypatch.setattr(reference, "available_cores", lambda: 2)
    way("reference way", folder, tmp_path).train(Task("train3d", 1, 0, every=16), time.monotonic())
    assert states[0] == []
    assert states[1:] == [["T", "T"]] * (len(states) - 1)


@pytest.mark.parametrize(
    ("to_reach", "images"),
    [({"error": 25, "limit": 10**6}, 48), ({"error": 15, "limit": 10**6}, 80), ({"error": 5, "limit": 0}, 48)],
    ids=["reached before its epochs are done", "reached after", "not reached within the limit"],
)
def test_the_reference_way_goes_on_until_the_error_or_the_limit(folder, tmp_path, monkeypatch, to_reach, images):
    errors = itertools.chain([40, 20, 30, 30, 20], itertools.repeat(10))
    made_up = lambda *_: Validation(4, {"error_px": next(errors)}, None)  # noqa: E731
    monkeypatch.setattr(reference, "validate", made_up)
    task = Task("train2d", 1, 0, every=16, **to_reach)
    curve = way("reference way", folder, tmp_path).train(task, time.monotonic())
    assert [point.images for point in curve.points] == list(range(0, images + 1, 16))
    assert curve.end == curve.points[3]


def test_finetuning_in_the_reference_way_begins_with_what_the_other_stages_learned(folder, tmp_path):
    found = way("reference way", folder, tmp_path)
    *_, curve = (found.train(Task(stage, 1, 0, every=16), time.monotonic()) for stage in STAGES)
    weights = [torch.load(tmp_path / f"reference-{stage}-0.pt") for stage in ("train2d", "train3d")]
    state = {key: value for part in weights for key, value in part.items()}
    stage = STAGES["finetune"](ModelConfig(backbone="resnet18"), SIDE)
    model = stage.build_model().eval()
    parts = stage.networks(model)
    values = [value for key, value in state.items() if key.startswith("heatmap.")]
    parts["heatmap_net"].load_state_dict(dict(zip(parts["heatmap_net"].state_dict(), values, strict=True)))
    lifting = {key.removeprefix("lifting."): value for key, value in state.items() if key.startswith("lifting.")}
    parts["lifting_net"].load_state_dict(lifting)
    (batch,) = build_loader(DataConfig(shards=folder / "shards"), "val")
    with torch.no_grad():
        errors = stage.errors(stage.predict(model, batch), batch)["mpjpe_mm"]
    assert curve.points[0].error == pytest.approx(float(errors.sum / errors.frames), rel=1e-4)


def test_bad_lengths_are_refused(capsys):
    assert accuracy.main(["--epochs", "1", "0", "1"]) == 2
    assert "--epochs is 1 0 1: give at least 1 of each stage" in capsys.readouterr().err
