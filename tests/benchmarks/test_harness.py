"""Measuring is checked on a clock that only moves when a candidate says so."""

import contextlib
import json
import re
from functools import partial

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import fidelity, loader, plot, png, png_decoders, sharding, training
from benchmarks.harness import BenchmarkFlags, Candidate, Measured, Session, Target, Timed, judge, measure
from benchmarks.results import Projection, publish
from benchmarks.statistics import median_interval, median_ratio, ratio_interval
from tests.shard_factory import make_shard_set


class Clock:
    """Time that passes only in steps; every step is noted."""

    def __init__(self):
        self.now = 0.0
        self.events = []

    def __call__(self):
        return self.now

    def candidate(self, name, seconds, items=1, **more):
        @contextlib.contextmanager
        def start():
            self.events.append(f"open {name}")

            def step():
                self.events.append(name)
                self.now += seconds
                return items

            yield Session(step)
            self.events.append(f"close {name}")

        return Candidate(name, start, **more)


def laps(clock, candidates, **settings):
    return measure(candidates, clock=clock, **({"rounds": 1, "lap": 0.0, "warmup": 0.0} | settings))


def test_rates_are_items_over_time():
    clock = Clock()
    slow, fast = laps(clock, [clock.candidate("slow", 0.5, 2), clock.candidate("fast", 0.1, 3)], rounds=3, lap=1.0)
    assert slow.rates == pytest.approx([4.0] * 3)
    assert fast.rates == pytest.approx([30.0] * 3)


def test_warm_up_is_not_measured():
    clock = Clock()

    @contextlib.contextmanager
    def start():
        pace = iter([5.0, *[0.5] * 100])

        def step():
            clock.now += next(pace)
            return 1

        yield Session(step)

    cold, warm = Candidate("any", start), Candidate("any", start)
    assert laps(clock, [cold], steps=2)[0].rates == pytest.approx([2 / 5.5])
    assert laps(clock, [warm], steps=2, warmup=1.0)[0].rates == pytest.approx([2.0])


def test_what_was_done_ahead_is_not_measured():
    clock = Clock()

    @contextlib.contextmanager
    def start():
        pace = iter([0.0, 0.0, 0.0, *[0.5] * 100])

        def step():
            clock.now += next(pace)
            return 1

        yield Session(step, start=3)

    assert laps(clock, [Candidate("any", start)], steps=2, warmup=1e-9)[0].rates == pytest.approx([2.0])


def test_rounds_are_interleaved_and_each_begins_with_another():
    clock = Clock()
    names = "abc"
    laps(clock, [clock.candidate(name, 1.0) for name in names], rounds=4)
    assert "".join(event for event in clock.events if len(event) == 1) == "abc" + "bca" + "cab" + "abc"
    # one at a time
    assert [event for event in clock.events if " " in event] == [
        f"{what} {name}" for name in "abcbcacababc" for what in ("open", "close")
    ]


def test_a_device_that_runs_behind_is_waited_for():
    clock = Clock()

    def wait():
        clock.now += 9.0

    session = Session(lambda: 10, wait)
    (one,) = laps(clock, [Candidate("behind", lambda: contextlib.nullcontext(session))])
    assert one.rates == pytest.approx([10 / 9])


def test_time_known_better_counts():
    clock = Clock()
    session = Session(lambda: Timed(10, 4.0), figures=lambda: {"share": 0.5})
    (one,) = laps(clock, [Candidate("known", lambda: contextlib.nullcontext(session))], rounds=2)
    assert one.rates == [2.5, 2.5]
    assert one.figures == {"share": [0.5, 0.5]}


def test_ratios_are_of_the_same_round():
    # the machine slows down fourfold, the ratio stays
    assert median_ratio([80, 40, 20], [40, 20, 10]) == 2
    assert ratio_interval([80, 40, 20], [40, 20, 10], 0) == (2, 2)


def test_intervals_are_seeded_and_contain_the_median():
    rates = [9.0, 10.0, 11.0, 12.0, 30.0]
    low, high = median_interval(rates, 0)
    assert (low, high) == median_interval(rates, 0)
    assert 9 <= low <= 11 <= high <= 30
    assert low < high


def test_an_absent_package_is_reported_and_the_rest_runs():
    clock = Clock()
    absent = clock.candidate("absent", 1.0, needs=("json", "no_such_package", "no_such.parent"))
    measured = laps(clock, [absent, clock.candidate("present", 1.0)])
    assert measured[0].absent == "no_such_package, no_such.parent not installed"
    assert measured[0].rates == []
    assert measured[1].rates == [1.0]
    (row,) = judge([Target("t", ("absent",), ("present",), 0.9)], measured, 0)
    assert (row.value, row.verdict) == (None, "not measured")
    assert "no_such_package" in row.reason


def test_verdicts():
    clock = Clock()
    measured = laps(clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, 20), clock.candidate("c", 1.0, 5)])
    rows = judge(
        [
            Target("the fastest counts", ("a", "b"), ("c",), 4.0),
            Target("too slow", ("a",), ("b", "c"), 0.51),
            Target("a rate", ("a",), (), 10.0),
            Target("only shown", ("a",), ("c",)),
            Target("cannot be judged here", ("a",), ("c",), 1.0, "no GPU"),
            Target("nothing ran", at_least=60, unless="not built"),
        ],
        measured,
        0,
    )
    assert [row.verdict for row in rows] == ["met", "missed", "met", "", "not measured", "not measured"]
    assert [row.value for row in rows] == pytest.approx([4, 0.5, 10, 2, 2, None])
    assert (rows[0].of, rows[0].over, rows[5].reason) == ("b", "c", "not built")


def test_parts_of_one_work_are_taken_in_turn():
    clock = Clock()
    measured = laps(
        clock,
        [
            *(clock.candidate(f"ours {part}", 1.0, items) for part, items in (("a", 2), ("b", 4), ("c", 4))),
            *(clock.candidate(f"theirs {part}", 1.0, items) for part, items in (("a", 1), ("b", 1), ("c", 2))),
            clock.candidate("absent", 1.0, needs=("no_such_package",)),
        ],
    )
    ours, theirs = ([f"{whose} {part}" for part in "abc"] for whose in ("ours", "theirs"))
    rate, ratio, lacking = judge(
        [
            Target("a rate", ours, in_turn=True),
            Target("a ratio", ours, theirs, in_turn=True),
            Target("one is lacking", ours, [*theirs, "absent"], 1.0, in_turn=True),
        ],
        measured,
        0,
    )
    # a second holds one item of 1/2 + 1/4 + 1/4, and one of 1 + 1 + 1/2
    assert (rate.value, ratio.value) == pytest.approx((1.0, 2.5))
    assert ratio.over == "theirs a, then theirs b, then theirs c"
    assert (lacking.value, lacking.verdict) == (None, "not measured")
    assert "no_such_package" in lacking.reason


def test_a_verdict_within_the_noise_says_so():
    measured = [
        Measured(Candidate(name, Clock), rates) for name, rates in (("a", [8.0, 10.0, 13.0]), ("b", [10.0] * 3))
    ]
    (row,) = judge([Target("t", ("a",), ("b",), 0.97)], measured, 0)
    assert (row.verdict, row.value) == ("met", 1.0)
    assert "the interval holds the target" in row.reason


def check_result(folder, name):
    content = json.loads((folder / f"{name}.json").read_text())
    assert {"cpu", "cores", "gpu"} <= content["hardware"].keys()
    assert {"torch", "numpy", "webdataset"} <= content["versions"].keys()
    assert content["commit"] and content["date"] and content["command"]
    for file in (f"{name}.json", f"{name}.md"):
        assert not re.search(r'["\s=]/[a-z]+/', (folder / file).read_text())
    assert (folder / f"{name}.png").stat().st_size > 1000
    assert all(one["rates"] or one["absent"] for one in content["candidates"])
    return content


def test_results_are_written(tmp_path, capsys):
    clock = Clock()
    measured = laps(clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, needs=("no_such_package",))])
    flags = BenchmarkFlags(output=tmp_path / "results")
    projections = [Projection("all of it", 2.5, "hours", "nothing changes")]
    publish("synthetic", flags, measured, [Target("t", ("a",))], chosen={"size": 3}, projections=projections)
    content = check_result(tmp_path / "results", "synthetic")
    assert content["configuration"]["size"] == 3
    assert content["configuration"]["output"] == "results"
    page = (tmp_path / "results" / "synthetic.md").read_text()
    assert "did not run: no_such_package not installed" in page
    assert "Projection, not measured: all of it: 2.5 hours, if nothing changes." in page
    assert "| t " in capsys.readouterr().out
    picture = tmp_path / "results" / "synthetic.png"
    picture.unlink()
    assert plot.main(["--result", str(tmp_path / "results" / "synthetic.json")]) == 0
    assert picture.exists()


@pytest.mark.parametrize("content", [None, "{}", "no JSON", "[]"])
def test_plot_refuses_what_is_no_result(tmp_path, content, capsys):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    assert plot.main(["--result", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


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
    flags = ["--batch-size", "2", "--image-size", "64", "--trunks", "resnet18", "--steps", "2", "--threads", "1"]
    assert training.main([*SHORT, *flags, *more, "--device", "cpu", "--output", str(folder)]) == 0
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
    stage = ("--stages", "train3d", "--precisions", "auto", "bf16", "fp32")
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
    flags = training.TrainingFlags(trunks=("resnet18", "resnet34"), compile=("off", "default"))
    titles = [one.title for one in flags.trainings(torch.device("cpu"))]
    assert titles == [
        *(f"train2d {trunk} fp32{mode}" for trunk in ("resnet18", "resnet34") for mode in ("", " default")),
        *(f"train3d fp32{mode}" for mode in ("", " default")),
        *(f"finetune {trunk} fp32{mode}" for trunk in ("resnet18", "resnet34") for mode in ("", " default")),
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
        assert everything._memory(flags).output == tmp_path
