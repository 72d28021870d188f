"""Fetching the parts of all subjects, several at once, and unpacking each subject whose parts are all there."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Final

from loaders.errors import Failure
from loaders.system.os_errors import DiskFullError
from tools.archives.multipart import GO_ON, find_archives
from tools.archives.unpack import UnpackJob, temporary_folder, unpack_subject
from tools.downloading.plan import Part, Subject
from tools.downloading.server import RefusedError, Server
from tools.downloading.transfer import fetch, settle
from tools.parallel import CancelledJobError, Meter, Progress

_AHEAD: Final = 2
"""Of how many subjects parts are fetched before the first of them is unpacked."""


@dataclass
class Report:
    """What became of a run."""

    fetched: int = 0
    """Parts that were fetched."""
    here: int = 0
    """Parts that were there already."""
    lacking: int = 0
    """Parts that cannot be fetched."""
    unpacked: int = 0
    """Subjects that were unpacked."""
    faults: list[str] = field(default_factory=list)
    """What cannot be fetched, unpacked or deleted, and why."""
    notes: list[str] = field(default_factory=list)
    """What was left out of subjects that are unpacked."""
    rate: float = 0.0
    """How fast parts came, pauses included (bytes per second)."""


class _Received(Progress):
    """Counts the bytes that all threads receive, and can end their transfers."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._cancelled = False

    def add(self, units: int, written: int = 0) -> None:
        if self._cancelled:
            raise CancelledJobError
        with self._lock:
            self._meter.add(units, written)

    def cancel(self) -> None:
        self._cancelled = True


def download(subjects: Sequence[Subject], server: Server, connections: int) -> Report:
    """Fetch what is missing, one subject after the other, and unpack each as its plan says.

    Threads fetch while this one unpacks. Raises Failure and OSError for what stops all of it, such as a full disk.
    """
    report = Report()
    for subject in subjects:
        for part in subject.parts:
            if part.is_here:
                settle(part.path)
        if subject.is_ready:
            _clear(subject, report)
    todo = [subject for subject in subjects if not subject.is_ready]
    report.here = sum(part.is_here for subject in todo for part in subject.parts)
    to_unpack = sum(subject.size for subject in todo if subject.unpacked)
    with (
        Meter(sum(subject.missing for subject in todo), "B", "downloading", scale=True) as meter,
        Meter(to_unpack, "B", "unpacking", scale=True) if to_unpack else contextlib.nullcontext(Progress()) as unpacked,
        ThreadPool(connections) as pool,  # its threads keep no process alive: one may be waiting for a silent server
    ):
        received = _Received(meter)
        begun: deque[tuple[Subject, Iterator[Part]]] = deque()
        waiting = deque(todo)
        try:
            while waiting or begun:
                while waiting and (len(begun) < _AHEAD or not waiting[0].unpacked):
                    subject = waiting.popleft()
                    begun.append((subject, pool.imap(partial(_get, server, received), subject.to_fetch)))
                subject, results = begun.popleft()
                got = list(results)
                report.fetched += sum(not part.fault for part in got)
                _finish(subject, [*subject.lacking, *(part for part in got if part.fault)], unpacked, report)
        finally:
            received.cancel()
        report.rate = meter.units / meter.seconds
    return report


def _get(server: Server, received: _Received, part: Part) -> Part:
    """Fetch a part; return it with the reason why it cannot be had, if it cannot."""
    try:
        fetch(server, part.url, part.path, received)
    except RefusedError as error:
        return replace(part, fault=str(error))
    return part


def _finish(subject: Subject, lacking: Sequence[Part], progress: Progress, report: Report) -> None:
    """Unpack a subject if that is wanted and all of its parts are there."""
    report.lacking += len(lacking)
    report.faults += [f"{subject.name}: {part.path.name}: {part.fault}" for part in lacking]
    if subject.unpacked is None:
        return
    if lacking:
        report.faults.append(f"{subject.name}: is not unpacked, for parts of it are missing")
        return
    _unpack(subject.unpacked, progress, report)
    report.unpacked += subject.is_ready


def _clear(subject: Subject, report: Report) -> None:
    """Delete parts of a subject that was unpacked before, once they are compared with it, if that is wanted."""
    job, folder = subject.unpacked, subject.parts[0].path.parent
    if job is None or not job.delete_parts:
        return
    for archive in find_archives(folder):
        if archive.subject == subject.name:
            with Meter(archive.bytes, "B", f"comparing {subject.name}", scale=True) as meter:
                _unpack(replace(job, archive=archive), meter, report)


def _unpack(job: UnpackJob, progress: Progress, report: Report) -> None:
    job.output.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder(job.output):
            outcome = unpack_subject(job, progress)
    except DiskFullError as error:
        raise Failure(f"{error}: make room, then {GO_ON}") from None
    name = job.archive.subject
    report.faults += [f"{name}: {outcome.fault}"] if outcome.fault else []
    report.notes += [f"{name}: note: {outcome.note}"] if outcome.note else []
