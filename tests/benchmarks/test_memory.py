"""Growth is found where there is some; loader processes tell what they hold."""

import json

import numpy as np
import pytest

from benchmarks import memory, plot, resident
from benchmarks.statistics import slope
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.skipif(not resident.SIZES.exists(), reason="needs Linux's account of a process's pages")


def process(name, anonymous, peak, batches=100):
    series = dict.fromkeys(("resident", "proportional", "anonymous"), anonymous)
    return memory.Process(name, batches=batches, series=series, peak=peak)


def test_slope_and_its_error():
    noise = np.random.default_rng(0).normal(0, 0.1, 15)
    found, error = slope(100 + 2.5 * np.arange(15) + noise)
    line, covariance = np.polyfit(np.arange(15), 100 + 2.5 * np.arange(15) + noise, 1, cov=True)
    assert found == pytest.approx(line[0])
    assert error == pytest.approx(np.sqrt(covariance[0, 0]))
    assert slope([3.0, 3.0, 3.0]) == (0, 0)


def test_the_first_epochs_do_not_count_as_growth():
    # pages are touched first, then nothing more is held
    assert process("a", [0.0, *[500.0] * 5], 0).growth("anonymous") == (0, 0)
    assert process("a", [0.0] * 5 + [*range(500, 515)], 0).growth("anonymous")[0] == pytest.approx(1)


def test_the_worst_is_judged():
    small, large = process("small", [1.0, 2.0, 3.0, 4.0], 100.0), process("large", [9.0] * 4, 3072.0)
    peak, growth = memory._judge([small, large])
    assert (peak.of, peak.value, peak.at_most, peak.verdict) == ("large", 3.0, 1.5, "missed")
    assert (growth.of, growth.value, growth.verdict) == ("small", 1.0, "")
    assert memory._judge([small])[0].verdict == "met"
    (_, short) = memory._judge([process("short", [1.0, 2.0, 3.0, 4.0], 100.0, batches=99)])
    assert (short.value, short.verdict) == (None, "not measured")
    assert "297 batches" in short.reason
    (row, _) = memory._judge([memory.Process("none", "not installed")])
    assert (row.verdict, row.reason) == ("not measured", "none: not installed")


def test_memory_end_to_end(tmp_path, capsys):
    shards = make_shard_set(tmp_path / "jpeg", {"train": 8})
    flags = ["--shards", str(shards), "--batch-size", "4", "--threads", "1", "--epochs", "4"]
    assert memory.main([*flags, "--output", str(tmp_path / "results")]) == 0
    content = json.loads((tmp_path / "results" / "memory.json").read_text())
    processes = {one["name"]: one for one in content["processes"]}
    assert processes["torch raw"]["absent"] == "no raw shards given"
    found = processes["torch JPEG"]
    assert all(len(values) == 4 for values in found["series"].values())
    for resident_, proportional, anonymous in zip(*found["series"].values(), strict=True):
        # the kernel's count of the peak lags by some pages
        assert 50 < anonymous <= proportional <= resident_ <= found["peak"] + 1
    tars = sum(path.stat().st_size for path in (shards / "train").glob("*.tar"))
    # in whole pages, rounded
    assert 0 < found["tars"] * 2**20 < tars + 4 * 4096
    assert {row["at_most"] for row in content["rows"]} == {1.5, None}
    page = (tmp_path / "results" / "memory.md").read_text()
    assert "<= 1.5" in page
    assert "| torch JPEG " in capsys.readouterr().out
    image = tmp_path / "results" / "memory.png"
    image.unlink()
    assert plot.main(["--result", str(tmp_path / "results" / "memory.json")]) == 0
    assert image.stat().st_size > 1000


@pytest.mark.parametrize(("flags", "said"), [(["--epochs", "3"], "at least 4"), (["--raw-shards", "x"], "--shards")])
def test_bad_flags_are_refused(flags, said, capsys):
    assert memory.main(flags) == 2
    assert said in capsys.readouterr().err
