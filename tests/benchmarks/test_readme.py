"""The README's rates and ratios are those of the published results."""

import json
import re
from pathlib import Path
from statistics import median

import pytest

from benchmarks.harness import RESULTS, interval, rates_in_turn, ratios

README = (Path(__file__).parents[2] / "README.md").read_text()
STAGES = ("train2d resnet18", "train3d", "finetune resnet18")
ROWS = {
    "load JPEGs to floats": ("loader", ["ours torch, float32"], ["DALI reader + crop_mirror_normalize, float32"]),
    "load raw shards to floats": ("loader", ["ours torch raw, float32"], ["FFCV raw, float32"]),
    "load JPEGs to bytes": ("loader", ["ours torch, uint8"], ["FFCV JPEG, uint8"]),
    "load raw shards to bytes": ("loader", ["ours torch raw, uint8"], ["FFCV raw, uint8"]),
    "shard": ("sharding", ["tools.shard, libpng RGBA"], ["plain way, libpng RGBA"]),
    "train all stages": (
        "training",
        [f"{stage} bf16, shards" for stage in STAGES],
        [f"{stage}, reference way" for stage in STAGES],
    ),
    "train3d": ("train3d/training", ["train3d fp32, shards"], ["train3d fp32, resident"]),
    "two processes, each": ("scaling", ["train2d, 2 processes"], ["train2d, 1 process"]),
}
"""Result, our candidates, and theirs, which take turns with every item, by the table's first column."""


def published(result, names):
    content = json.loads((RESULTS / f"{result}.json").read_text())
    rates = {one["name"]: one["rates"] for one in content["candidates"]}
    return rates_in_turn([rates[name] for name in names])


def table():
    """The cells of the table's rows, by the first one without its link."""
    section = README.partition("## Speed")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {re.sub(r"\[(.*?)\]\[.*?\]", r"\1", row[0]): row[1:] for row in rows[2:]}


def test_the_table_has_these_rows():
    assert table().keys() == ROWS.keys()


@pytest.mark.parametrize("what", ROWS)
def test_the_readme_shows_what_was_published(what):
    result, ours, theirs = ROWS[what]
    rates, others = published(result, ours), published(result, theirs)
    found = ratios(rates, others)
    low, high = interval(found, 0)
    rate = f"{median(rates):,.0f}" if median(rates) >= 10 else f"{median(rates):.2g}"
    shown, _, ratio = table()[what]
    assert (shown, ratio) == (rate, f"{median(found):.3g} ({low:.3g} to {high:.3g})")


@pytest.mark.parametrize(("stored", "shown"), [("JPEG", "2,783"), ("raw", "10,029")])
def test_the_footnote_shows_what_was_published(stored, shown):
    rate = median(published("loader", [f"FFCV {stored} + one-pass planes, float32"]))
    assert f"{rate:,.0f}" == shown
    assert f"{shown} images/s" in README or f"at {shown} from" in README
