"""Each benchmark from its command line to its files, as short as can be."""

from functools import partial

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import loader, memory, scaling, sharding, training
from benchmarks.harness import Candidate, Length, Measured, Row, Target, verdicts
from tests.benchmarks.result_files import check_result
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "run",
    [partial(loader.main, ["--repetitions", "0"]), partial(training.main, ["--steps", "0"])],
    ids=["loader", "training"],
)
def test_bad_numbers_are_refused(run, capsys):
    assert run() == 2
    assert "give at least" in capsys.readouterr().err


SHORT = ["--repetitions", "1", "--seconds", "0", "--warmup", "0"]


def test_loader_end_to_end(tmp_path):
    shards = make_shard_set(tmp_path / "jpeg", {"train": 12})
    raw = make_shard_set(tmp_path / "raw", {"train": 12}, image_format="raw")
    given = ["--shards", str(shards), "--raw-shards", str(raw), "--batch-size", "3", "--threads", "1"]
    assert loader.main([*SHORT, *given, "--output", str(tmp_path / "results")]) == 0
    content = check_result(tmp_path / "results", "loader")
    ran = {one["name"] for one in content["candidates"] if one["rates"]}
    assert {"ours torch, uint8", "ours torch raw, float32"} <= ran
    assert any(row["what"].startswith("best backend, JPEG to float32") and row["value"] for row in content["rows"])


STAGES = ("train2d resnet18", "train3d", "finetune resnet18")


def train(folder, *more):
    flags = ["--batch-size", "2", "--image-size", "64", "--backbones", "resnet18", "--steps", "2", "--threads", "1"]
    flags += ["--precisions", "fp32", *more, "--device", "cpu"]
    assert training.main([*SHORT, *flags, "--output", str(folder)]) == 0
    return check_result(folder, "training")


def test_training_end_to_end(tmp_path):
    pytest.importorskip("skimage")
    content = train(tmp_path, "--frames", "8", "--repeat", "2")
    candidates = {one["name"]: one for one in content["candidates"]}
    ours = [f"{stage} fp32, {source}" for stage in STAGES for source in ("shards", "cached batch")]
    theirs = [f"{stage}, reference way" for stage in STAGES]
    assert list(candidates) == ours + theirs
    assert all(0 <= candidates[name]["figures"]["data-wait share"][0] <= 1 for name in ours)
    rows = {row["what"]: row for row in content["rows"]}
    for stage in STAGES:
        assert rows[f"{stage}: the fastest from shards over the reference way"]["value"] > 0
    assert (
        rows["all stages, resnet18 fp32: over the reference way, as many epochs of each"]["verdict"] == "not measured"
    )


def test_training_compares_precisions(tmp_path):
    shards = make_shard_set(tmp_path / "shards", {"train": 8, "val": 2})
    stage = ("--stages", "train3d", "--precisions", "fp32", "bf16", "fp32")
    content = train(tmp_path / "results", "--shards", str(shards), *stage)
    titles = ["train3d fp32", "train3d bf16"]
    assert content["configuration"]["trainings"] == titles
    assert {one["name"]: one["absent"] for one in content["candidates"] if not one["rates"]} == {
        "train3d, reference way": "no frames given: --dataset"
    }
    assert [row["what"] for row in content["rows"] if row["value"]] == [
        f"{title}: shards over the cached batch" for title in titles
    ]


def test_training_compares_backbones_and_modes():
    flags = training.TrainingFlags(backbones=("resnet18", "resnet34"), precisions=("fp32",), compile=("off", "default"))
    titles = [one.title for one in training.trainings_of(flags, torch.device("cpu"))]
    assert titles == [
        *(f"train2d {backbone} fp32{mode}" for backbone in ("resnet18", "resnet34") for mode in ("", " default")),
        *(f"train3d fp32{mode}" for mode in ("", " default")),
        *(f"finetune {backbone} fp32{mode}" for backbone in ("resnet18", "resnet34") for mode in ("", " default")),
    ]


def test_training_on_frames_needs_shards_of_them(tmp_path, capsys):
    assert training.main(["--dataset", str(tmp_path)]) == 2
    assert "--dataset needs --shards" in capsys.readouterr().err


def test_sharding_end_to_end(tmp_path):
    flags = ["--frames", "4", "--repeat", "4", "--image-size", "64", "--threads", "1", "--pngs", "libpng RGBA"]
    assert sharding.main(["--repetitions", "1", "--seconds", "0", *flags, "--output", str(tmp_path)]) == 0
    content = check_result(tmp_path, "sharding")
    assert content["candidates"][0]["figures"]["frames/s with start-up"][0] > 0
    assert content["rows"][0]["value"] > 0


@pytest.mark.network
def test_scaling_end_to_end(tmp_path):
    short = ["--repetitions", "1", "--image-size", "64", "--batch-size", "4", "--steps", "2", "--frames", "8"]
    assert scaling.main([*short, "--backbone", "resnet18", "--device", "cpu", "--output", str(tmp_path)]) == 0
    content = check_result(tmp_path, "scaling")
    one, joint, apart = (candidate["median"] for candidate in content["candidates"])
    assert min(one, joint, apart) > 0
    assert [row["value"] for row in content["rows"]] == pytest.approx([joint / one, joint / apart], rel=1e-3)


@pytest.mark.parametrize(
    ("over_one", "over_independent_runs", "expected"),
    [
        (0.97, 0.9, ["met", "met"]),
        (0.93, 0.99, ["met", "met"]),
        (0.93, 0.97, ["missed", "missed"]),
        (0.96, 0.99, ["met", "met"]),
    ],
)
def test_scaling_holds_against_one_or_against_independent_runs(over_one, over_independent_runs, expected):
    rates = {"one": 1.0, "joint": over_one, "apart": over_one / over_independent_runs}
    measured = [Measured(Candidate(name, None), [rate] * 3) for name, rate in rates.items()]
    targets = [Target("a", ["joint"], ["one"], at_least=0.95), Target("b", ["joint"], ["apart"], at_least=0.98)]
    rows = scaling.either(verdicts(targets, measured, 0))
    assert [row.verdict for row in rows] == expected
    own = [over_one >= 0.95, over_independent_runs >= 0.98]
    assert [not row.reason for row in rows] == (own if any(own) else [True, True])


def test_scaling_refuses_steps_that_would_not_be_measured(capsys):
    assert scaling.main(["--steps", "3"]) == 2
    assert "--steps is 3: give a multiple of 2" in capsys.readouterr().err


def test_scaling_needs_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "available_cores", lambda: 1)
    for row in scaling.benchmark(scaling.ScalingFlags(repetitions=1, device="cpu", output=tmp_path)):
        assert row.verdict == "not measured"
        assert "needs 2 cores, there are 1" in row.reason


def test_independent_runs_wait_for_the_slower_one(monkeypatch):
    rates = {0: 8.0, 1: 5.0}
    monkeypatch.setattr(scaling, "_rate", lambda processes, settings, number: rates[number] / processes)
    reading = scaling._train(2, 1, 6, {"--data.batch-size": 4}, Length())
    assert reading.items / reading.seconds == pytest.approx(5)


def test_everything_is_set_up_within_its_ranges(tmp_path):
    for quick in (False, True):
        settings = [flags for _, flags in everything.benchmarks(everything.AllFlags(output=tmp_path, quick=quick))]
        assert len(settings) == 5
        assert all(flags.output == tmp_path and flags.repetitions >= 1 for flags in settings)


def test_all_rows_stand_in_one_table(monkeypatch, tmp_path, capsys):
    def run(name):
        return lambda flags: [Row(f"{name} over another", "a", "b", 2.0, 1.9, 2.1, 1.5, verdict="met")]

    for module in (sharding, loader, training, scaling, memory):
        monkeypatch.setattr(module, "benchmark", run(module.__name__))
    assert everything.main(["--quick", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 5
    assert all("| 2 (1.9 to 2.1) | >= 1.5 | met " in line for line in lines[2:])
