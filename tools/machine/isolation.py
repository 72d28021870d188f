"""Examining in a process of its own, which a broken library may take down with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final

from tools.machine.finding import Finding, Probe

_SECONDS: Final = 120.0
"""How long one examination may take (seconds)."""
_LAST_SECONDS: Final = 10.0
"""How long the process may take to remove its temporary files (seconds)."""


def findings(probes: Sequence[Probe], seconds: float = _SECONDS) -> Iterator[tuple[Probe, Finding]]:
    """Yield what each probe finds. Where one ends its process, or does not end itself, a new one does the rest.

    Args:
        probes: what to examine, in this order.
        seconds: how long each may take (seconds).
    """
    remaining = list(probes)
    while remaining:
        for finding in _of_one_process(tuple(remaining), seconds):
            yield remaining.pop(0), finding


def _of_one_process(probes: Sequence[Probe], seconds: float) -> Iterator[Finding]:
    """Yield findings, up to that of a probe which broke the process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_examine, args=(probes, sender), daemon=True)
    process.start()
    sender.close()
    try:
        for probe in probes:
            started = time.monotonic()
            try:
                if receiver.poll(seconds):
                    yield receiver.recv()
                    continue
                found = f"no answer within {time.monotonic() - started:.0f} s"
            except EOFError:
                process.join()
                found = f"examining it ended the process ({_ending(process.exitcode)})"
            yield Finding(probe.if_it_fails, found, probe.remedy)
            return
        process.join(_LAST_SECONDS)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _ending(status: int | None) -> str:
    return signal.Signals(-status).name if status and status < 0 else f"exit status {status}"


def _examine(probes: Sequence[Probe], sender: Connection) -> None:
    """Send what each probe finds; what libraries print besides is of no use."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    for probe in probes:
        sender.send(probe.finding())
