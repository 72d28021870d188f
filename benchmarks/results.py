"""A result on disk: JSON for programs, Markdown for people."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.harness import BenchmarkFlags, Measured, Row, Target, judge, plain
from benchmarks.plot import draw
from loaders.system.files import write_whole


@dataclass(frozen=True)
class Projection:
    """A number computed from measured ones; not a measurement."""

    what: str
    value: float
    unit: str
    assumes: str


@dataclass(frozen=True)
class Result:
    """One benchmark's outcome."""

    name: str
    program: str
    """Module that was run."""
    configuration: Mapping[str, Any]
    """Everything that was set, and what was chosen for what was left open."""
    measured: Sequence[Measured]
    rows: Sequence[Row]
    projections: Sequence[Projection] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {
            "benchmark": self.name,
            **machine.origin(self.program),
            "configuration": plain(self.configuration),
            "candidates": [_candidate(one) for one in self.measured],
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "projections": [dataclasses.asdict(projection) for projection in self.projections],
        }


def publish(
    name: str,
    flags: BenchmarkFlags,
    measured: Sequence[Measured],
    targets: Sequence[Target],
    *,
    chosen: Mapping[str, Any],
    projections: Sequence[Projection] = (),
) -> Result:
    """Judge, write NAME.json, NAME.md and NAME.png into the output folder, and show the rows.

    Args:
        name: of the benchmark.
        flags: what it was told.
        measured: what it found.
        targets: what it is held against.
        chosen: what it chose for what the flags left open.
        projections: what follows under assumptions.
    """
    settings = {**dataclasses.asdict(flags), **chosen}
    result = Result(name, f"benchmarks.{name}", settings, measured, judge(targets, measured, flags.seed), projections)
    content = result.to_plain()
    write_result(flags.output, content, to_markdown(content))
    draw(content, flags.output / f"{name}.png")
    sys.stdout.write(rates_table(content) + "\n" + rows_table(content["rows"]) + "\n")
    return result


def write_result(output: Path, content: Mapping[str, Any], page: str) -> None:
    """Write a benchmark's content as JSON and its page as Markdown."""
    name = content["benchmark"]
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / f"{name}.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(output / f"{name}.md", page.encode())


def heading(title: str, content: Mapping[str, Any]) -> list[str]:
    """Return the first lines of a result's page: its title, and where it comes from."""
    hardware = content["hardware"]
    return [
        f"# {title}",
        "",
        f"`{content['command']}`, {content['date']}, commit {content['commit']}.",
        "",
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB; "
        f"GPU: {hardware['gpu'] or 'none'}.",
        ", ".join(f"{name} {version}" for name, version in content["versions"].items()) + ".",
        "",
    ]


def to_markdown(content: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    lines = [
        *heading(content["benchmark"].capitalize(), content),
        f"![rates]({content['benchmark']}.png)",
        "",
        rates_table(content),
        rows_table(content["rows"]),
    ]
    for projection in content["projections"]:
        lines.append(
            f"Projection, not measured: {projection['what']}: {projection['value']:,.3g} {projection['unit']}, "
            f"if {projection['assumes']}."
        )
        lines.append("")
    lines += ["Configuration:", "", "```json", json.dumps(content["configuration"], indent=1), "```", ""]
    return "\n".join(lines)


def rates_table(content: Mapping[str, Any]) -> str:
    """Return the table of candidates."""

    def found(one: Mapping[str, Any]) -> tuple[str, ...]:
        if not one["rates"]:
            return (one["name"], one["group"], "-", "-", one["unit"], f"did not run: {one['absent']}")
        spread = f"{one['min']:,.1f} to {one['max']:,.1f}"
        return (one["name"], one["group"], f"{one['median']:,.1f}", spread, one["unit"], _beside(one))

    head = ("candidate", "work", "median", "range over rounds", "unit", "beside")
    return table(head, [found(one) for one in content["candidates"]])


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of targets and verdicts."""

    def found(row: Mapping[str, Any]) -> tuple[str, ...]:
        value = "-" if row["value"] is None else f"{row['value']:,.3g} ({row['low']:,.3g} to {row['high']:,.3g})"
        limits = ((">=", row["target"]), ("<=", row.get("at_most")))
        target = ", ".join(f"{sign} {limit:,g}" for sign, limit in limits if limit is not None)
        verdict = row["verdict"] + (f": {row['reason']}" if row["reason"] else "")
        names = " over ".join(name for name in (row["of"], row["over"]) if name)
        return (row["what"], value, target, verdict, names)

    return table(("what", "value (95 %)", "target", "verdict", "measured"), [found(row) for row in rows])


def _candidate(one: Measured) -> dict[str, Any]:
    """Return a candidate's laps; numbers are rounded to what they can mean."""
    rates = [round(rate, 3) for rate in one.rates]
    return {
        "name": one.candidate.name,
        "group": one.candidate.group,
        "unit": one.candidate.unit,
        "ours": one.candidate.ours,
        "rates": rates,
        "median": round(one.median, 3) if rates else None,
        "min": min(rates, default=None),
        "max": max(rates, default=None),
        "figures": {name: [round(value, 4) for value in values] for name, values in one.figures.items()},
        "absent": one.absent,
        "note": one.candidate.note,
    }


def _beside(one: Mapping[str, Any]) -> str:
    figures = [f"{name} {sorted(values)[len(values) // 2]:.3g}" for name, values in one["figures"].items()]
    return "; ".join([*figures, *([one["note"]] if one["note"] else [])])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    rule = "-|-".join("-" * width for width in widths)
    return "".join(f"| {line} |\n" for line in (lines[0], rule, *lines[1:]))
