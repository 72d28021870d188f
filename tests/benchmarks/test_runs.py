"""Each benchmark from its command line to its files, as short as can be."""

import json
from functools import partial

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import fidelity, loader, png, png_decoders, scaling, sharding, training
from tests.benchmarks.result_files import check_result
from tests.shard_factory import make_shard_set


@pytest.mark.parametrize(
    "run",
    [partial(loader.main, ["--rounds", "0"]), partial(training.main, ["--steps", "0"])],
    ids=["loader", "training"],
)
def test_bad_numbers_are_refused(run, capsys):
    assert run() == 2
    assert "give at least" in capsys.readouterr().err


SHORT = ["--rounds", "1", "--lap", "0", "--warmup", "0"]


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
    ours = [f"{stage} fp32, {source}" for stage in STAGES for source in ("shards", "resident")]
    theirs = [f"{stage}, reference way" for stage in STAGES]
    assert list(candidates) == ours + theirs
    assert all(0 <= one["figures"]["data-wait share"][0] <= 1 for one in candidates.values())
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
        f"{title}: shards over the resident batch" for title in titles
    ]


def test_training_compares_trunks_and_modes():
    flags = training.TrainingFlags(backbones=("resnet18", "resnet34"), precisions=("fp32",), compile=("off", "default"))
    titles = [one.title for one in flags.trainings(torch.device("cpu"))]
    assert titles == [
        *(f"train2d {backbone} fp32{mode}" for backbone in ("resnet18", "resnet34") for mode in ("", " default")),
        *(f"train3d fp32{mode}" for mode in ("", " default")),
        *(f"finetune {backbone} fp32{mode}" for backbone in ("resnet18", "resnet34") for mode in ("", " default")),
    ]


def test_training_on_frames_needs_shards_of_them(tmp_path, capsys):
    assert training.main(["--dataset", str(tmp_path)]) == 2
    assert "--dataset needs --shards" in capsys.readouterr().err


def test_sharding_end_to_end(tmp_path):
    flags = ["--frames", "4", "--repeat", "4", "--image-size", "64", "--threads", "1", "--kinds", "libpng RGBA"]
    assert sharding.main(["--rounds", "1", "--lap", "0", *flags, "--output", str(tmp_path)]) == 0
    content = check_result(tmp_path, "sharding")
    assert content["candidates"][0]["figures"]["bytes written per byte read"][0] < 1
    assert [one["unit"] for one in content["projections"]] == ["minutes"]
    assert all(row["value"] for row in content["rows"] if "plain way" in row["what"])


def test_scaling_end_to_end(tmp_path):
    short = ["--rounds", "1", "--image-size", "64", "--batch-size", "4", "--steps", "2", "--frames", "8"]
    assert scaling.main([*short, "--backbone", "resnet18", "--device", "cpu", "--output", str(tmp_path)]) == 0
    content = check_result(tmp_path, "scaling")
    one, two = content["candidates"]
    assert one["median"] > 0
    assert two["median"] > 0
    assert content["rows"][0]["value"] == pytest.approx(two["median"] / one["median"], rel=1e-3)


def test_scaling_refuses_steps_that_would_not_be_measured(capsys):
    assert scaling.main(["--steps", "3"]) == 2
    assert "--steps is 3: give a multiple of 2" in capsys.readouterr().err


def test_scaling_needs_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "available_cores", lambda: 1)
    result = scaling.benchmark(scaling.ScalingFlags(rounds=1, device="cpu", output=tmp_path))
    (row,) = result.rows
    assert row.verdict == "not measured"
    assert "needs 2 cores, there are 1" in row.reason


def test_png_end_to_end(tmp_path):
    assert (
        png.main([*SHORT, "--frames", "4", "--threads", "1", "--kinds", "16 bit worldp", "--output", str(tmp_path)])
        == 0
    )
    content = check_result(tmp_path, "png")
    ran = {one["name"] for one in content["candidates"] if one["rates"]}
    assert {f"{name}, 16 bit worldp" for name in (png_decoders.OURS, "OpenCV")} <= ran
    absent = {one["name"]: one["absent"] for one in content["candidates"]}
    assert absent["Pillow, 16 bit worldp"] == "Pillow decodes to 8 bit only"


def test_fidelity_end_to_end(tmp_path, capsys):
    assert fidelity.main(["--frames", "4", "--image-size", "64", "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "fidelity.json").read_text())["rows"]
    jpegs = [row for row in rows if row["form"].startswith("jpeg")]
    assert [row["psnr"] for row in jpegs] == sorted(row["psnr"] for row in jpegs)
    assert [row["bytes_per_frame"] for row in jpegs] == sorted(row["bytes_per_frame"] for row in jpegs)
    assert jpegs[0]["difference"] > jpegs[-1]["difference"] > 0
    raw = next(row for row in rows if row["form"] == "raw")
    assert raw["bytes_per_frame"] == 64 * 64 * 3 + 128
    assert "| raw " in capsys.readouterr().out
    assert "| raw " in (tmp_path / "fidelity.md").read_text()


def test_everything_is_set_up_within_its_ranges(tmp_path):
    for quick in (False, True):
        flags = everything.AllFlags(output=tmp_path, quick=quick)
        assert everything._sharding(flags).output == everything._loader(flags).output == tmp_path
        assert everything._extraction(flags).output == tmp_path
        assert everything._training(flags).rounds >= 1
        assert everything._scaling(flags).rounds >= 1
        assert everything._memory(flags).output == tmp_path
