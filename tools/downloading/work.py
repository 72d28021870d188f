"""Fetching the parts of all subjects, several at once, and unpacking each subject whose parts are all there."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Final

from loaders.errors import Failure
from loaders.system.os_errors import DiskFullError
from tools.archives.multipart import GO_ON, find_archives
from tools.archives.unpack import UnpackJob, temporary_folder, unpack_subject
from tools.downloading.plan import Part, Subject
from tools.downloading.server import RefusedError, Server
from tools.downloading.transfer import fetch
from tools.parallel import CancelledJobError, Meter, Progress

_Begun = tuple[Subject, list[tuple[Part, AsyncResult[str]]]]
"""A subject, and the parts that are being fetched with the reason why each could not be."""
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
    """Fetch what is missing, a subject after the other, and unpack them as their plan says.

    Threads fetch while this one unpacks. Raises Failure and OSError for what stops all of it, such as a full disk.
    """
    report = Report()
    todo = [subject for subject in subjects if not subject.is_ready]
    total = sum(subject.missing for subject in todo)
    to_unpack = sum(subject.size for subject in todo if subject.unpacked)
    for subject in subjects:
        if subject.is_ready:
            _clear(subject, report)
    with (
        Meter(total, "B", "downloading", scale=True) as meter,
        Meter(to_unpack, "B", "unpacking", scale=True) if to_unpack else contextlib.nullcontext(Progress()) as unpacked,
        ThreadPool(connections) as pool,  # its threads keep no process alive: one may be waiting for a silent server
    ):
        received = _Received(meter)

        def get(part: Part) -> str:
            try:
                fetch(server, part.url, part.path, received)
            except RefusedError as error:
                return str(error)
            return ""

        def begin(subject: Subject) -> _Begun:
            missing = [part for part in subject.parts if not part.is_here and not part.fault]
            report.here += sum(part.is_here for part in subject.parts)
            return subject, [(part, pool.apply_async(get, (part,))) for part in missing]

        try:
            waiting, begun = deque(todo), deque[_Begun]()
            while waiting or begun:
                while waiting and (len(begun) < _AHEAD or not waiting[0].unpacked):
                    begun.append(begin(waiting.popleft()))
                subject, results = begun.popleft()
                got = [replace(part, fault=result.get()) for part, result in results]
                report.fetched += sum(not part.fault for part in got)
                _finish(subject, [*subject.faults, *replace(subject, parts=tuple(got)).faults], unpacked, report)
        finally:
            received.cancel()
        report.rate = meter.units / meter.seconds
    return report


def _finish(subject: Subject, faults: Sequence[str], progress: Progress, report: Report) -> None:
    """Unpack a subject if that is wanted and all of its parts are there."""
    report.lacking += len(faults)
    report.faults += [f"{subject.name}: {fault}" for fault in faults]
    if subject.unpacked is None:
        return
    if faults:
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
            _unpack(replace(job, archive=archive), Progress(), report)


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
