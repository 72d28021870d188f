"""What a download will take: space, checked before it begins, and for a dry run the time."""

from __future__ import annotations

import os
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
    """Return the room that is needed, by disk.

    What is unpacked takes at least as much as its archive. Where parts are deleted, those of two subjects are there at
    once: one that is being unpacked, and the next one.
    """
    todo = [subject for subject in subjects if not subject.is_ready]
    missing = [subject.missing for subject in todo]
    for_parts = max((sum(missing[at : at + 2]) for at in range(len(todo))), default=0) if delete else sum(missing)
    found = [Space(Destination(parts), for_parts)]
    if dataset is None:
        return found
    tree = Space(Destination(dataset, "--extract"), sum(subject.size for subject in todo if not subject.faults))
    if tree.destination.nearest().stat().st_dev != found[0].destination.nearest().stat().st_dev:
        return [*found, tree]
    if delete:  # what is deleted makes room for what is unpacked: in the end all trees are there, and the last parts
        last = missing[-1] if missing else 0
        return [Space(tree.destination, max(for_parts, tree.needed - sum(map(_here, todo)) + last))]
    return [Space(found[0].destination, for_parts + tree.needed)]


def show_forecast(subjects: Sequence[Subject], needs: Sequence[Space], server: Server, *, delete: bool) -> None:
    """Write what the run will do to standard output."""
    todo = [subject for subject in subjects if not subject.is_ready]
    parts = [part for subject in todo for part in subject.parts]
    missing = [part for part in parts if not part.is_here and not part.fault]
    size = sum(part.missing for part in missing)
    rows = [*((subject.name, _said_of(subject, delete=delete)) for subject in subjects), ("", "")]
    rows.append(("to fetch", f"{counted(len(missing), 'part')}, {format_bytes(size)}"))
    if here := sum(part.is_here for part in parts):
        rows.append(("there already", counted(here, "part")))
    if faulty := sum(bool(part.fault) for part in parts):
        rows.append(("cannot be", counted(faulty, "part")))
    for need in needs:
        rows.append(
            (
                f"space, {need.destination.flag}",
                f"at least {format_bytes(need.needed)}; {format_bytes(need.destination.free)} are free",
            )
        )
    if missing and (rate := _measure(missing[0].url, server)):
        rows.append(
            ("time", f"about {tqdm.format_interval(size / rate)} at the {rate / 1e6:.1f} MB/s of one connection; "
             "several may be faster")
        )  # fmt: skip
    show(rows, warnings(needs))


def warnings(needs: Sequence[Space]) -> Iterator[str]:
    """Yield what may stop the run."""
    for need in needs:
        yield from need.destination.warnings(need.needed)


def _said_of(subject: Subject, *, delete: bool) -> str:
    if subject.is_ready:
        left = delete and any(os.path.lexists(part.path) for part in subject.parts)
        return f"unpacked already{', parts to compare and delete' if left else ''}"
    if subject.faults:
        return f"incomplete: {'; '.join(subject.faults)}"
    missing = [part for part in subject.parts if not part.is_here]
    if not missing:
        return "all parts are there"
    return f"to fetch, {len(missing)} of {counted(len(subject.parts), 'part')}: {format_bytes(subject.missing)}"


def _here(subject: Subject) -> int:
    return subject.size - subject.missing


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
