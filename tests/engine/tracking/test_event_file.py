"""Event files as TensorBoard reads them."""

import time

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.tracking.event_file import EventFile


def write(folder, steps, *, value, purge_step):
    file = EventFile(folder, {}, purge_step=purge_step)
    for step in steps:
        file.scalars(step, {"loss": value})
    file.image(steps[-1], "image", np.zeros((4, 4, 3), np.uint8))
    file.close()


def read(folder):
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars("loss")]


def test_a_resumed_run_shows_whatever_the_clock_says(tmp_path, monkeypatch):
    now = time.time()
    for clock, first, value in ((now, 1, 1.0), (now - 86400, 3, 2.0), (now - 86400, 5, 3.0), (now + 86400, 6, 4.0)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        write(tmp_path, [*range(first, 8)], value=value, purge_step=first)
    assert read(tmp_path) == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 3.0), (6, 4.0), (7, 4.0)]


def test_files_of_torchs_writer_come_first(tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    torchs = SummaryWriter(str(tmp_path))
    for step in range(4):
        torchs.add_scalar("loss", 1.0, step)
    torchs.close()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    write(tmp_path, [2, 3], value=2.0, purge_step=2)
    assert read(tmp_path) == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0)]
