"""The tables of a run of the GPU suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from benchmarks.results import table

Line = Mapping[str, Any]

_SHOWN_APART: Final = ("GFLOP per image", "MB per image at least")
"""Figures that the table of trainings shows as what they mean for the rate."""


def page(origin: Line, lines: Sequence[Line]) -> str:
    """Return the Markdown page of a run."""
    hardware = origin["hardware"]
    parts = [
        "# GPU suite",
        f"`{origin['command']}`, {origin['date']}, commit {origin['commit']}.",
        f"GPU: {hardware['gpu'] or 'none: the numbers mean nothing'}; {hardware['cpu']}, {hardware['cores']} cores, "
        f"{hardware['memory_gib']} GiB.",
        ", ".join(f"{name} {version}" for name, version in origin["versions"].items() if version != "absent") + ".",
        trainings(lines),
        _steps(lines),
        *(part for line in lines if "ms per step by kind" in line.get("figures", {}) for part in _profile(line)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def trainings(lines: Sequence[Line]) -> str:
    """Return the rates of training beside what the same device could do at most; empty if nothing was measured."""
    found = {line["step"]: line["figures"] for line in lines if "figures" in line}
    ceilings = found.get("ceilings")
    rows = []
    for step, figures in found.items():
        if not step.startswith("training: "):
            continue
        rate, cached = median(figures["images/s"]), figures["images/s, cached batch"]
        over = median(a / b for a, b in zip(figures["images/s"], cached, strict=True))
        row = [step.removeprefix("training: "), f"{rate:,.0f}", f"{over:.3f}"]
        if ceilings:
            arithmetic = 1e3 * ceilings["TFLOP/s"] / figures["GFLOP per image"]
            traffic = 1e6 * ceilings["TB/s"] / figures["MB per image at least"]
            row += [f"{rate / arithmetic:.1%}", f"{arithmetic:,.0f}", f"{traffic:,.0f}"]
        rows.append(tuple(row))
    if not rows:
        return ""
    head = ("training", "images/s from shards", "over the cached batch", "MFU", "arithmetic allows", "memory allows")
    # MFU counts against the matrix product that was measured in the same run, not against a data sheet
    return table(head[: len(rows[0])], rows)


def _steps(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        figures = line.get("figures", {})
        beside = [f"{name} {_plain(value)}" for name, value in figures.items() if _is_plain(name, value)]
        seconds = f"{line['seconds']:.1f}"
        rates = (_rate(figures.get(name)) for name in ("images/s", "images/s, cached batch"))
        rows.append((line["step"], line["status"], seconds, *rates, line.get("reason", "") or "; ".join(beside)))
    return table(("step", "", "s", "images/s", "cached batch", "beside"), rows)


def _rate(rates: Sequence[float] | None) -> str:
    return f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})" if rates else ""


def _is_plain(name: str, value: Any) -> bool:
    return (isinstance(value, int | float | str) or name == "loss") and name not in _SHOWN_APART


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.4g} to {value[-1]:.4g}"
    return value if isinstance(value, str) else f"{value:,.4g}"


def _profile(line: Line) -> list[str]:
    figures = line["figures"]
    kinds, total = figures["ms per step by kind"], figures["ms per step, kernels"]
    by_kind = [(kind, f"{value:.2f}", f"{value / total:.1%}") for kind, value in kinds.items()]
    longest = [(one["kernel"], f"{one['ms per step']:.3f}", f"{one['times']:g}") for one in figures["longest"]]
    return [
        f"## {line['step']}",
        table(("kind", "ms per step", "share"), by_kind),
        table(("kernel", "ms per step", "times"), longest),
    ]
