"""Growth is found where there is some; loader processes tell what they hold."""

import json

import numpy as np
import pytest

from benchmarks import memory
from benchmarks.harness import Candidate, Measured
from benchmarks.memory import growth, slope_and_error
from tests.shard_factory import make_shard_set

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not memory.PROCESS.exists(), reason="needs Linux's account of a process's memory"),
]


def process(name, slope, batches=300):
    figures = {memory._GROWTH: [slope], memory._ERROR: [0.1], memory._BATCHES: [batches]}
    return Measured(Candidate(name, None), [1.0], figures)


def test_slope_and_its_error():
    noise = np.random.default_rng(0).normal(0, 0.1, 15)
    found, error = slope_and_error(list(100 + 2.5 * np.arange(15) + noise))
    line, covariance = np.polyfit(np.arange(15), 100 + 2.5 * np.arange(15) + noise, 1, cov=True)
    assert found == pytest.approx(line[0])
    assert error == pytest.approx(np.sqrt(covariance[0, 0]))
    assert slope_and_error([3.0, 3.0, 3.0]) == (0, 0)


def test_the_fastest_growth_is_told():
    row = growth([process("slow", 0.5), process("fast", 1.0)])
    assert (row.of, row.value, row.low, row.high, row.verdict) == ("fast", 1.0, 0.8, 1.2, "")
    short = growth([process("long", 1.0), process("short", 1.0, batches=297)])
    assert (short.value, short.verdict) == (None, "not measured")
    assert "297 batches" in short.reason
    none = growth([Measured(Candidate("none", None), absent="not installed")])
    assert (none.verdict, none.reason) == ("not measured", "none: not installed")


@pytest.mark.parametrize(
    ("sizes", "slope"),
    [([0.0, *[500.0] * 5], 0), ([0.0] * 5 + [*range(500, 515)], 1)],
    ids=["pages are touched first, then nothing more is held", "growth at the end"],
)
def test_the_first_epochs_do_not_count_as_growth(monkeypatch, sizes, slope):
    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, *_):
            return self

        def result(self):
            return 1024.0, sizes, 7

    monkeypatch.setattr(memory, "ProcessPoolExecutor", Pool)
    reading = memory._load(None, len(sizes), None)
    assert reading.items == 1.0
    assert reading.figures[memory._GROWTH] == pytest.approx(slope)
    assert reading.figures[memory._BATCHES] == 7 * min(15, len(sizes) - 1)


def test_memory_end_to_end(tmp_path, capsys):
    shards = make_shard_set(tmp_path / "jpeg", {"train": 8})
    flags = ["--shards", str(shards), "--batch-size", "4", "--threads", "1", "--epochs", "4"]
    assert memory.main([*flags, "--output", str(tmp_path / "results")]) == 0
    content = json.loads((tmp_path / "results" / "memory.json").read_text())
    processes = {one["name"]: one for one in content["candidates"]}
    assert processes["torch raw"]["absent"] == "no raw shards given"
    found = processes["torch JPEG"]
    (peak,), (own,) = found["rates"], found["figures"]["own memory at the end, MiB"]
    assert 50 < own <= 1024 * peak + 1
    assert {row["at_most"] for row in content["rows"]} == {1.5, None}
    assert content["rows"][0]["value"] >= peak
    assert "<= 1.5" in (tmp_path / "results" / "memory.md").read_text()
    assert "| torch JPEG " in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "said"), [(["--epochs", "3"], "at least 4"), (["--raw-shards", "x"], "--shards")])
def test_bad_flags_are_refused(flags, said, capsys):
    assert memory.main(flags) == 2
    assert said in capsys.readouterr().err
