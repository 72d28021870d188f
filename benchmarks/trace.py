"""Where a training step's time goes, by a trace of ``--profile``: ``python -m benchmarks.trace --trace FILE``."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.results import table
from engine.cli.command import OK, Command, command
from loaders.errors import InputError

_KINDS: Final = (
    ("communication", r"nccl|allreduce|c10d|gloo"),
    ("copy", r"memcpy|memset|copy_|_to_copy"),
    ("optimizer", r"adam|multi_tensor|foreach|lamb"),
    ("BatchNorm", r"batch_?norm|\bbn_|bn_fw|bn_bw"),
    ("convolution", r"conv|dgrad|wgrad|fprop|xmma|implicit_gemm|winograd|mkldnn"),
    ("matrix product", r"gemm|cutlass|\bmm\b|addmm|::mm|linear"),
    ("pooling", r"pool"),
    ("reduction", r"reduce|sum|mean|triton_red|triton_per"),
    ("elementwise", r"elementwise|vectorized|triton_poi|relu|add|mul|div|sub|threshold|sigmoid|exp"),
)
"""Kind -> what is in a kernel's name, or on a CPU an operator's; the first that fits."""

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TraceFlags(Command):
    """Flags of ``benchmarks.trace``."""

    trace: Path
    """profile.json.gz of a run folder."""


@dataclass(frozen=True)
class Account:
    """Of the traced steps, per step (milliseconds)."""

    steps: int
    step: float
    """From one step's beginning to the next one's."""
    busy: float
    """Some kernel runs; on a CPU some operator."""
    kinds: dict[str, float]
    """Kernels by kind; two at once count twice."""
    ranges: dict[str, float]
    """What the host does meanwhile: data, forward, backward, optimizer."""


@command("benchmarks.trace", "Tell where a step's time goes.")
def main(flags: TraceFlags) -> int:
    """Run the command and return its exit status."""
    sys.stdout.write(describe(account(read_events(flags.trace))))
    return OK


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return a trace's events that have a duration. Raises InputError if it is no trace."""
    data = path.read_bytes()
    try:
        events = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{path} is no trace ({error}): give a run folder's profile.json.gz") from None
    return [event for event in events if event.get("ph") == "X"]


def account(events: Sequence[dict[str, Any]]) -> Account:
    """Add up the steps of a trace. Raises InputError if it holds none."""
    marks = sorted(_span(event) for event in events if event["name"].startswith("ProfilerStep#"))
    if not marks:
        raise InputError("the trace holds no steps: it must come from engine/train.py --profile")
    first, last = marks[0][0], marks[-1][1]
    steps = len(marks)
    inside = [event for event in events if first <= event["ts"] < last]
    kernels = [event for event in inside if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    timed = (
        [(event["name"], event["dur"]) for event in kernels]
        if kernels
        else list(_alone([event for event in inside if event.get("cat") == "cpu_op"]))
    )
    kinds: dict[str, float] = defaultdict(float)
    for name, duration in timed:
        kinds[kind_of(name)] += duration
    ranges: dict[str, float] = defaultdict(float)
    for event in inside:
        if event.get("cat") == "user_annotation" and not event["name"].startswith("ProfilerStep#"):
            ranges[event["name"]] += event["dur"]
    running = kernels or [event for event in inside if event.get("cat") == "cpu_op"]
    return Account(
        steps,
        (last - first) / steps / 1e3,
        _covered(_span(event) for event in running) / steps / 1e3,
        {kind: time / steps / 1e3 for kind, time in sorted(kinds.items(), key=lambda entry: -entry[1])},
        {name: time / steps / 1e3 for name, time in ranges.items()},
    )


def kind_of(name: str) -> str:
    """Return what a kernel or operator does, by its name."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name, re.IGNORECASE)), "other")


def describe(found: Account) -> str:
    """Return the account as tables."""
    rows = [(kind, f"{time:.2f}", f"{time / found.step:.1%}") for kind, time in found.kinds.items()]
    idle = max(0.0, found.step - found.busy)
    rows.append(("nothing runs", f"{idle:.2f}", f"{idle / found.step:.1%}"))
    meanwhile = [(name, f"{time:.2f}", f"{time / found.step:.1%}") for name, time in found.ranges.items()]
    return (
        f"{found.steps} steps of {found.step:.2f} ms\n\n"
        + table(("what runs", "ms per step", "of the step"), rows)
        + "\n"
        + table(("what the host does", "ms per step", "of the step"), meanwhile)
    )


def _span(event: dict[str, Any]) -> Span:
    return event["ts"], event["ts"] + event["dur"]


def _covered(spans: Iterable[Span]) -> float:
    """Return the time in which at least one of the spans is open."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _alone(operators: Sequence[dict[str, Any]]) -> Iterable[tuple[str, float]]:
    """Yield each operator with its time less that of the operators that it calls."""
    open_ones: dict[Any, list[list[Any]]] = defaultdict(list)
    for event in sorted(operators, key=lambda event: (event["ts"], -event["dur"])):
        begin, end = _span(event)
        stack = open_ones[event.get("tid")]
        while stack and stack[-1][1] <= begin:
            name, _, alone = stack.pop()
            yield name, alone
        if stack:
            stack[-1][2] -= event["dur"]
        stack.append([event["name"], end, event["dur"]])
    for stack in open_ones.values():
        for name, _, alone in stack:
            yield name, alone


if __name__ == "__main__":
    sys.exit(main())
