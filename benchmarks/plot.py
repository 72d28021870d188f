"""Draw a result: ``python -m benchmarks.plot --result FILE`` writes an image beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.cli.command import OK, Command, command
from loaders.errors import InputError
from loaders.system.os_errors import naming

OURS: Final = "#2a6fbb"
OTHERS: Final = "#b0b0b0"


@dataclass(frozen=True, kw_only=True)
class PlotFlags(Command):
    """Flags of ``benchmarks.plot``."""

    result: Path
    """A result's JSON file."""


@command("benchmarks.plot", "Draw a benchmark's result.")
def main(flags: PlotFlags) -> int:
    """Draw a result beside its file."""
    if not flags.result.is_file():
        raise InputError(f"{flags.result} does not exist: give a JSON file that a benchmark wrote")
    try:
        content = json.loads(flags.result.read_text(encoding="utf-8"))
        path = flags.result.with_suffix(".png")
        (draw_series if "processes" in content else draw)(content, path)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{flags.result} is no result of a benchmark ({error})") from None
    sys.stdout.write(f"{path}\n")
    return OK


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Write the image of a result: a panel per kind of work, a bar per candidate, whiskers over its laps."""
    present = [one for one in content["candidates"] if one["rates"]]
    groups = list(dict.fromkeys(one["group"] for one in present))
    sizes = [sum(one["group"] == group for one in present) for group in groups]
    figure = _figure(content, 0.9 + sum(0.75 + 0.36 * size for size in sizes))
    panels = figure.subplots(max(1, len(groups)), squeeze=False, height_ratios=sizes or [1])[:, 0]
    for axes, group in zip(panels, groups, strict=False):
        _panel(axes, group, [one for one in present if one["group"] == group])
    with naming(path):
        figure.savefig(path, dpi=120, metadata={"Software": None})


def draw_series(content: Mapping[str, Any], path: Path) -> None:
    """Write the image of `benchmarks.memory`'s result: sizes after each epoch, resident and anonymous."""
    figure = _figure(content, 4.5)
    axes = figure.subplots()
    for number, one in enumerate(one for one in content["processes"] if not one["absent"]):
        for kind, style in (("resident", "-"), ("anonymous", ":")):
            values = one["series"][kind]
            axes.plot(range(1, len(values) + 1), values, style, color=f"C{number}", label=f"{one['name']}, {kind}")
    axes.set_ylim(0)
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(content["unit"], fontsize=8)
    axes.legend(fontsize=7, ncols=2, loc="lower right")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with naming(path):
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _figure(content: Mapping[str, Any], height: float) -> Figure:
    """Return an empty figure of a height (inches) that names the benchmark and the hardware."""
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    hardware = content["hardware"]
    figure.suptitle(
        f"{content['benchmark']}: {hardware['cpu']}, {hardware['cores']} cores, GPU: {hardware['gpu'] or 'none'}",
        fontsize=10,
    )
    return figure


def _panel(axes: Axes, group: str, candidates: Sequence[Mapping[str, Any]]) -> None:
    medians = [one["median"] for one in candidates]
    whiskers = [[one["median"] - one["min"] for one in candidates], [one["max"] - one["median"] for one in candidates]]
    colors = [OURS if one["ours"] else OTHERS for one in candidates]
    places = range(len(candidates))
    axes.barh(places, medians, xerr=whiskers, color=colors, ecolor="#404040", capsize=2, height=0.7)
    axes.set_yticks(places, [one["name"] for one in candidates], fontsize=8)
    axes.invert_yaxis()
    for place, one in zip(places, candidates, strict=True):
        axes.text(one["max"], place, f"  {one['median']:,.0f}", va="center", fontsize=8)
    axes.set_xlim(0, 1.15 * max(one["max"] for one in candidates))
    axes.set_title(group, fontsize=9, loc="left")
    axes.set_xlabel(candidates[0]["unit"], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(main())
