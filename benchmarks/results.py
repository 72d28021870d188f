"""A result on disk: JSON for programs, Markdown for people, with the hardware, versions and commit it comes from."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from benchmarks.harness import ROOT, BenchmarkFlags, Measured, Row
from loaders.system.cores import available_cores
from loaders.system.files import write_whole

_PACKAGES: Final = (
    "torch",
    "torchvision",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "numpy",
    "opencv-python-headless",
    "kornia-rs",
    "numba",
    "webdataset",
    "scikit-image",
    "ffcv",
    "spdl-core",
    "torchcodec",
    "grain",
    "litdata",
    "mosaicml-streaming",
    "datago",
)
_INSTRUCTIONS: Final = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
"""What makes kinds of processors differ, by torch's names."""
LIMITS: Final = (
    "ATEN_CPU_CAPABILITY",
    "GLIBC_TUNABLES",
    "JSIMD_FORCEAVX2",
    "JSIMD_FORCENONE",
    "JSIMD_FORCESSE2",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "ONEDNN_MAX_CPU_ISA",
    "OPENCV_CPU_DISABLE",
)
"""Environment variables that keep libraries from instructions which the processor has."""


def publish(
    name: str,
    flags: BenchmarkFlags,
    measured: Sequence[Measured],
    rows: Sequence[Row],
    *,
    chosen: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    figure: bytes = b"",
) -> list[Row]:
    """Write NAME.json and NAME.md into the output folder, show both tables, and return the rows.

    Args:
        name: of the benchmark.
        flags: what it was told.
        measured: what it found.
        rows: its targets beside what was measured.
        chosen: what it chose for what the flags left open.
        more: of what it found, for the JSON file alone.
        figure: a PNG, which becomes NAME.png and part of the page; empty if there is none.
    """
    content = {
        "benchmark": name,
        **origin(f"benchmarks.{name}"),
        "configuration": {**dataclasses.asdict(flags), **chosen},
        "candidates": [_candidate(one) for one in measured],
        "rows": [dataclasses.asdict(row) for row in rows],
        **({"figure": f"{name}.png"} if figure else {}),
        **(more or {}),
    }
    flags.output.mkdir(parents=True, exist_ok=True)
    if figure:
        write_whole(flags.output / f"{name}.png", figure)
    write_whole(flags.output / f"{name}.json", (_json(content) + "\n").encode())
    write_whole(flags.output / f"{name}.md", page(content, rows).encode())
    sys.stdout.write(f"{rates_table(content)}\n{rows_table(rows)}\n")
    return list(rows)


def page(content: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the Markdown page of a result."""
    hardware = content["hardware"]
    return "\n".join(
        [
            f"# {content['benchmark'].capitalize()}",
            "",
            f"`{content['command']}`, {content['date']}, commit {content['commit']}.",
            "",
            f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB; "
            f"GPU: {hardware['gpu'] or 'none'}.",
            f"Instructions: {', '.join(hardware['instructions'])}. {_limits(hardware['limits'])}",
            ", ".join(f"{name} {version}" for name, version in content["versions"].items()) + ".",
            "",
            rates_table(content),
            rows_table(rows),
            *([f"![{content['benchmark']}]({content['figure']})", ""] if "figure" in content else []),
            "Configuration:",
            "",
            "```json",
            _json(content["configuration"]),
            "```",
            "",
        ]
    )


def _limits(limits: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in limits.items())
    return f"Limited by {listed}." if listed else "All of them were used."


def rates_table(content: Mapping[str, Any]) -> str:
    """Return the table of candidates."""

    def cells(one: Mapping[str, Any]) -> tuple[str, ...]:
        if not one["rates"]:
            return (one["name"], one["group"], "-", "-", one["unit"], f"did not run: {one['absent']}")
        figures = [f"{name} {median(values):.3g}" for name, values in one["figures"].items()]
        beside = "; ".join([*figures, one["note"]] if one["note"] else figures)
        low, middle, high = map(_number, (min(one["rates"]), median(one["rates"]), max(one["rates"])))
        return (one["name"], one["group"], middle, f"{low} to {high}", one["unit"], beside)

    head = ("candidate", "work", "median", "range over repetitions", "unit", "beside")
    return table(head, [cells(one) for one in content["candidates"]])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def rows_table(rows: Sequence[Row]) -> str:
    """Return the table of targets and verdicts."""

    def cells(row: Row) -> tuple[str, ...]:
        value = "-" if row.value is None else f"{row.value:,.3g} ({row.low:,.3g} to {row.high:,.3g})"
        limits = ((">=", row.at_least), ("<=", row.at_most))
        target = ", ".join(f"{sign} {limit:,g}" for sign, limit in limits if limit is not None)
        verdict = row.verdict + (f": {row.reason}" if row.reason else "")
        return (row.what, value, target, verdict, " over ".join(name for name in (row.of, row.over) if name))

    return table(("what", "value (95 %)", "target", "verdict", "measured"), [cells(row) for row in rows])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    rule = "-|-".join("-" * width for width in widths)
    return "".join(f"| {line} |\n" for line in (lines[0], rule, *lines[1:]))


def _candidate(one: Measured) -> dict[str, Any]:
    """Return a candidate as JSON can hold it; numbers are rounded to what they can mean."""
    return {
        "name": one.candidate.name,
        "group": one.candidate.group,
        "unit": one.candidate.unit,
        "rates": [round(rate, 3) for rate in one.rates],
        "median": round(median(one.rates), 3) if one.rates else None,
        "figures": {name: [round(value, 4) for value in values] for name, values in one.figures.items()},
        "absent": one.absent,
        "note": one.candidate.note,
    }


def _json(content: Mapping[str, Any]) -> str:
    """Return the content as JSON; of paths only the last name."""
    return json.dumps(content, indent=1, ensure_ascii=False, default=lambda path: path.name)


def origin(program: str) -> dict[str, Any]:
    """Return when, how, of which commit and on what the module ``program`` is run."""
    # of paths only the last name
    arguments = [Path(argument).name if os.sep in argument else argument for argument in sys.argv[1:]]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", program, *arguments]),
        "commit": _commit(),
        "hardware": _hardware(),
        "versions": _versions(),
    }


def _hardware() -> dict[str, Any]:
    gpu, has = torch.cuda.is_available(), torch.cpu.get_capabilities()
    return {
        "cpu": _cpu_model(),
        "instructions": [name for name in _INSTRUCTIONS if has.get(name)],
        "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
    }


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter; of DALI's two builds, the one that is there."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    absent = {name: "absent" for name in _PACKAGES if name not in found and not name.startswith("nvidia-dali")}
    return {**found, **absent}


def _commit() -> str:
    """Return the commit, marked as dirty if tracked files were changed since."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
        return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def _cpu_model() -> str:
    """Return the processor's name with its family and model, since clouds hide the rest of the name."""
    said: dict[str, str] = {}
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    return f"{said['model name']} (family {said.get('cpu family', '?')}, model {said.get('model', '?')})"
