"""TensorBoard's event files, in the order in which TensorBoard reads them."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary


class EventFile:
    """Writes the newest event file of a folder.

    torch's SummaryWriter names its files after the clock, and TensorBoard reads a folder's files in the order of their
    names: where the clock went back, it would take what a resumed run writes for what came before.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Begin a file; TensorBoard forgets what older files say of ``purge_step`` and later steps."""
        self._file = (folder / _next_name(folder)).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def scalar(self, step: int, name: str, value: float) -> None:
        """Write a number of one step."""
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)])))

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write an image (H, W, 3) of one step."""
        self._write(Event(step=step, summary=summary.image(name, image, dataformats="HWC")))

    def flush(self) -> None:
        """Let TensorBoard see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _next_name(folder: Path) -> str:
    """Return the name that SummaryWriter would give a file, its time such that it comes after all that are there."""
    named = [re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in folder.iterdir()]
    stamp = max([int(time.time()), *(int(found[1]) + 1 for found in named if found)])
    return f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}.0"
