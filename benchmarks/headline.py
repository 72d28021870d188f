"""The ratios at the head of the README, out of published results: ``python -m benchmarks.headline``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import RESULTS
from benchmarks.plot import OTHERS, OURS
from benchmarks.results import table
from benchmarks.statistics import median_ratio, ratio_interval
from engine.cli.command import OK, Command, command
from loaders.system.os_errors import naming


@dataclass(frozen=True)
class Headline:
    """A comparison within one result."""

    what: str
    over: str
    """What it is held against, in the reader's words."""
    result: str
    """Name of the result's files."""
    of: Sequence[str]
    """Candidates of ours; several are parts of one work that take turns with every item."""
    against: Sequence[str]
    """Candidates of others, likewise."""


def _loading(what: str, ours: str, others: Mapping[str, str]) -> list[Headline]:
    return [Headline(what, over, "loader", (ours,), (other,)) for over, other in others.items()]


_STAGES: Final = ("train2d resnet18", "train3d", "finetune resnet18")

HEADLINES: Final = (
    *_loading(
        "loading JPEGs to floats",
        "ours torch, float32",
        {
            "webdataset + torchvision": "webdataset + torchvision, float32",
            "torch DataLoader + torchvision": "torch DataLoader + torchvision, float32",
            "SPDL + torchvision": "SPDL + torchvision, float32",
            "DALI's own reader": "DALI reader + crop_mirror_normalize, float32",
            "FFCV": "FFCV JPEG, float32",
            "FFCV with a one-pass normalizer of ours": "FFCV JPEG + one-pass planes, float32",
            "the reference way": "reference way, float32",
        },
    ),
    *_loading(
        "loading raw shards to floats",
        "ours torch raw, float32",
        {
            "FFCV": "FFCV raw, float32",
            "FFCV with a one-pass normalizer of ours": "FFCV raw + one-pass planes, float32",
        },
    ),
    *_loading("loading JPEGs to bytes", "ours torch, uint8", {"FFCV": "FFCV JPEG, uint8"}),
    *_loading("loading raw shards to bytes", "ours torch raw, uint8", {"FFCV": "FFCV raw, uint8"}),
    Headline(
        "sharding", "Pillow on every core", "sharding", ("tools.shard, libpng RGBA",), ("plain way, libpng RGBA",)
    ),
    Headline(
        "training, the three stages in turn",
        "the reference way",
        "training",
        [f"{stage} bf16, shards" for stage in _STAGES],
        [f"{stage}, reference way" for stage in _STAGES],
    ),
    Headline(
        "train3d from shards",
        "a batch that is there already",
        "train3d/training",
        ("train3d fp32, shards",),
        ("train3d fp32, resident",),
    ),
    Headline("each of two processes", "one alone", "scaling", ("train2d, 2 processes",), ("train2d, 1 process",)),
)


@dataclass(frozen=True)
class Found:
    """A comparison and its numbers."""

    headline: Headline
    rate: float
    """Ours, items per second."""
    ratio: float
    low: float
    high: float
    command: str


@dataclass(frozen=True, kw_only=True)
class HeadlineFlags(Command):
    """Flags of ``benchmarks.headline``."""

    results: Path = RESULTS
    """Folder of the published results; the image goes there."""


@command("benchmarks.headline", "Draw the README's ratios, and print its table.")
def main(flags: HeadlineFlags) -> int:
    """Run the command and return its exit status."""
    found = read(flags.results)
    draw(found, flags.results / "headline.png")
    sys.stdout.write(to_markdown(found))
    return OK


def read(results: Path) -> list[Found]:
    """Return the comparisons whose candidates were all measured."""
    contents: dict[str, Any] = {}
    found = []
    for headline in HEADLINES:
        if headline.result not in contents:
            contents[headline.result] = json.loads((results / f"{headline.result}.json").read_text(encoding="utf-8"))
        content = contents[headline.result]
        rates = {one["name"]: one["rates"] for one in content["candidates"] if one["rates"]}
        if not all(name in rates for name in (*headline.of, *headline.against)):
            continue
        ours, others = (_in_turn([rates[name] for name in names]) for names in (headline.of, headline.against))
        command = re.sub(r" --output \S+", "", content["command"])
        ratio = median_ratio(ours, others)
        found.append(Found(headline, float(np.median(ours)), ratio, *ratio_interval(ours, others, 0), command))
    return found


def to_markdown(found: Sequence[Found]) -> str:
    """Return the README's table; the result and its command stand where they change."""
    rows = []
    before = ""
    for one in found:
        name = one.headline.result
        link = f"[{Path(name).parts[0]}](benchmarks/results/{name}.md)"
        source = ("", "") if name == before else (link, f"`{one.command}`")
        interval = f"{one.ratio:.3g} ({one.low:.3g} to {one.high:.3g})"
        rows.append((one.headline.what, f"{one.rate:,.0f}", one.headline.over, interval, *source))
        before = name
    return table(("", "images/s", "as", "times as fast (95 %)", "result", "made by"), rows)


def draw(found: Sequence[Found], path: Path) -> None:
    """Write the ratios as bars on a logarithmic axis."""
    figure = Figure(figsize=(9, 0.8 + 0.36 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(found))
    ratios = np.array([one.ratio for one in found])
    reach = [ratios - [one.low for one in found], [one.high for one in found] - ratios]
    # bars begin at 1: as fast
    axes.barh(
        places,
        ratios - 1,
        left=1,
        xerr=np.abs(reach),
        color=[OURS if ratio >= 1 else OTHERS for ratio in ratios],
        ecolor="#404040",
        capsize=2,
        height=0.7,
    )
    labels = [f"{one.headline.what} / {one.headline.over}" for one in found]
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.8, 1.6 * max(one.high for one in found))
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    for place, one in zip(places, found, strict=True):
        axes.text(max(one.high, 1.0), place, f"  {one.ratio:.3g}", va="center", fontsize=8)
    axes.axvline(1, color="#404040", linewidth=1)
    axes.set_xlabel("times as fast, two cores, no GPU", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with naming(path):
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _in_turn(parts: Sequence[Sequence[float]]) -> list[float]:
    """Return items per second through all parts, one after the other, by round."""
    return [1 / sum(1 / rate for rate in rates) for rates in zip(*parts, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
