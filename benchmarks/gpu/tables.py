"""The tables of a run of the GPU suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.results import table

Line = Mapping[str, Any]


def page(origin: Line, lines: Sequence[Line]) -> str:
    """Return the Markdown page of a run."""
    hardware = origin["hardware"]
    parts = [
        "# GPU suite",
        f"`{origin['command']}`, {origin['date']}, commit {origin['commit']}.",
        f"GPU: {hardware['gpu'] or 'none: the numbers mean nothing'}; {hardware['cpu']}, {hardware['cores']} cores, "
        f"{hardware['memory_gib']} GiB.",
        ", ".join(f"{name} {version}" for name, version in origin["versions"].items() if version != "absent") + ".",
        _steps(lines),
        *(part for line in lines if "ms per step by kind" in line.get("figures", {}) for part in _profile(line)),
    ]
    return "\n\n".join(parts) + "\n"


def _steps(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        figures = line.get("figures", {})
        beside = [f"{name} {_plain(value)}" for name, value in figures.items() if _is_plain(name, value)]
        rate, cached = (figures.get(name) for name in ("images/s", "images/s, cached batch"))
        ratio = median(a / b for a, b in zip(rate, cached, strict=True)) if cached else None
        rows.append(
            (
                line["step"],
                line["status"],
                f"{line['seconds']:.1f}",
                _rate(rate),
                _rate(cached),
                f"{ratio:.3f}" if ratio else "",
                line.get("reason", "") or "; ".join(beside),
            )
        )
    head = ("step", "", "s", "images/s", "cached batch", "ratio", "beside")
    return table(head, rows)


def _rate(rates: Sequence[float] | None) -> str:
    return f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})" if rates else ""


def _is_plain(name: str, value: Any) -> bool:
    return isinstance(value, int | float | str) or name == "loss"


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
