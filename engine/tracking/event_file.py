"""TensorBoard's files."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary


class EventFile:
    """The newest event file of a folder; a `Sink`.

    torch's SummaryWriter names its files after the clock, and TensorBoard reads a folder's files in the order of their
    names: where the clock went back, it would take what a resumed run writes for what came before.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, purge_step: int) -> None:
        """Begin a file; TensorBoard forgets what older files say of ``purge_step`` and later steps."""
        self._file = (folder / _next_name(folder)).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self._text(purge_step, "config", config)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one step."""
        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=numbers)))
        self._file.flush()

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write an image (H, W, 3) of one step."""
        self._write(Event(step=step, summary=summary.image(name, image, dataformats="HWC")))
        self._file.flush()

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the summary as text."""
        self._text(step, "summary", values)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _text(self, step: int, name: str, values: Mapping[str, Any]) -> None:
        text = "\n".join(f"    {line}" for line in json.dumps(values, indent=1).splitlines())  # Markdown's code
        self._write(Event(step=step, summary=summary.text(name, text)))
        self._file.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _next_name(folder: Path) -> str:
    """Return the name that SummaryWriter would give a file, its time later than all that are there."""
    stamps = [re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in folder.iterdir()]
    newest = max([int(time.time()), *(int(stamp[1]) + 1 for stamp in stamps if stamp)])
    return f"events.out.tfevents.{newest:010d}.{socket.gethostname()}.{os.getpid()}.0"
