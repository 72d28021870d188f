"""What a download will take: space, checked before it begins, and for a dry run the time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from engine.cli.forecast import Destination, counted, show
from loaders.system.os_errors import format_bytes
from tools.downloading.plan import Subject
from tools.downloading.server import Server

_SAMPLE: Final = 16_000_000
"""How much a dry run downloads, and throws away, to measure the speed (bytes)."""
_SAMPLE_SECONDS: Final = 5.0
"""How long at most (seconds)."""


@dataclass(frozen=True)
class Space:
    """Room that a download needs on one disk."""

    destination: Destination
    needed: int
    """At the least (bytes)."""


def spaces(subjects: Sequence[Subject], parts: Path, dataset: Path | None, *, delete: bool) -> list[Space]:
    """Return the room that is needed beside what is there, by disk.

    What is unpacked takes at least as much as its archive. Where parts are deleted, those of two subjects are there at
    once: one that is being unpacked, and the next one.
    """
    todo = [subject for subject in subjects if not subject.is_ready]
    missing = [subject.missing for subject in todo]
    of_parts = max((sum(missing[at : at + 2]) for at in range(len(todo))), default=0) if delete else sum(missing)
    archives = Destination(parts)
    if dataset is None:
        return [Space(archives, of_parts)]
    tree = Destination(dataset, "--extract")
    of_tree = sum(subject.size for subject in todo if not subject.lacking)
    if tree.nearest().stat().st_dev != archives.nearest().stat().st_dev:
        return [Space(archives, of_parts), Space(tree, of_tree)]
    if not delete:
        return [Space(archives, of_parts + of_tree)]
    # in the end, before the last parts are deleted, all is unpacked; deleted parts that are here now have made room
    deleted = sum(subject.size - subject.missing for subject in todo[:-1])
    return [Space(archives, max(of_parts, of_tree + sum(missing[-1:]) - deleted))]


def show_forecast(subjects: Sequence[Subject], needs: Sequence[Space], server: Server, *, delete: bool) -> None:
    """Write what the run will do to standard output."""
    todo = [subject for subject in subjects if not subject.is_ready]
    to_fetch = [part for subject in todo for part in subject.to_fetch]
    size = sum(part.missing for part in to_fetch)
    rows = [*((subject.name, _said_of(subject, delete=delete)) for subject in subjects), ("", "")]
    rows.append(("to fetch", f"{counted(len(to_fetch), 'part')}, {format_bytes(size)}"))
    if here := sum(part.is_here for subject in todo for part in subject.parts):
        rows.append(("there already", counted(here, "part")))
    if lacking := sum(len(subject.lacking) for subject in todo):
        rows.append(("cannot be", counted(lacking, "part")))
    for need in needs:
        free = format_bytes(need.destination.free)
        rows.append((f"space, {need.destination.flag}", f"at least {format_bytes(need.needed)}; {free} are free"))
    if to_fetch and (rate := _measure(to_fetch[0].url, server)):
        duration = tqdm.format_interval(size / rate)
        rows.append(("time", f"about {duration} at the {rate / 1e6:.1f} MB/s of one connection, or less with several"))
    show(rows, warnings(needs))


def warnings(needs: Sequence[Space]) -> Iterator[str]:
    """Yield what may stop the run."""
    for need in needs:
        yield from need.destination.warnings(need.needed)


def _said_of(subject: Subject, *, delete: bool) -> str:
    if subject.is_ready:
        left = delete and any(part.path.exists() for part in subject.parts)
        return f"unpacked already{', parts to compare and delete' if left else ''}"
    if subject.lacking:
        return f"incomplete: {'; '.join(f'{part.path.name}: {part.fault}' for part in subject.lacking)}"
    if not subject.to_fetch:
        return "all parts are there"
    return (
        f"to fetch, {len(subject.to_fetch)} of {counted(len(subject.parts), 'part')}: {format_bytes(subject.missing)}"
    )


def _measure(url: str, server: Server) -> float:
    """Return how fast the beginning of a file comes (bytes per second); 0 if that cannot be told."""
    start, count = time.monotonic(), 0
    try:
        with server.ask("GET", url, Range=f"bytes=0-{_SAMPLE - 1}") as response:
            for piece in response.raw.stream(1 << 16, decode_content=False):
                count += len(piece)
                if count >= _SAMPLE or time.monotonic() - start > _SAMPLE_SECONDS:
                    break
    except (requests.RequestException, HTTPError):
        return 0.0
    return count / max(time.monotonic() - start, 1e-9)
