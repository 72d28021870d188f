"""What a process that fails leaves."""

import os
import re
import socket

import pytest
import torch

from engine.cli.error_log import ErrorLog
from loaders.errors import Failure, InputError


def caught(error):
    """Return an error as it is after it was raised."""
    try:
        raise error
    except type(error) as found:
        return found


def test_a_failure_leaves_where_when_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    log, error = ErrorLog(tmp_path / "run"), caught(Failure("the disk\nis gone"))
    log.begin(lambda: 17)
    assert not (tmp_path / "run").exists()
    log.write(error)
    log.close()
    path = tmp_path / "run/errors/rank-3.log"
    assert error.__notes__ == [f"log on {socket.gethostname()}: {path}"]
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", lines[0])
    assert lines[1:5] == [
        f"host: {socket.gethostname()}",
        "process: 3 of 8, after 2 restarts of this node",
        "step: 17",
        "error: Failure: the disk\\nis gone",
    ]
    assert f"torch {torch.__version__}" in lines[5]
    assert "Traceback (most recent call last):" in lines
    assert any("in caught" in line for line in lines)


def test_a_second_failure_is_appended(tmp_path):
    for reason in ("first", "second"):
        ErrorLog(tmp_path).write(caught(Failure(reason)))
    said = (tmp_path / "errors/rank-0.log").read_text()
    assert said.index("error: Failure: first") < said.index("error: Failure: second")
    assert said.count("step: before the first") == 2


@pytest.mark.parametrize("case", ["bad input", "a dry run", "a folder that cannot be made"])
def test_what_leaves_no_log_adds_nothing(tmp_path, case):
    (tmp_path / "file").touch()
    folder = {"a dry run": None, "a folder that cannot be made": tmp_path / "file"}.get(case, tmp_path / "run")
    error = caught(InputError("no such flag") if case == "bad input" else Failure("failed"))
    ErrorLog(folder).write(error)
    assert not hasattr(error, "__notes__")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_flight_recorder_of_nccl_writes_beside_it(tmp_path, monkeypatch):
    """As far as this goes without a GPU: where it is told to write, and the folder for it, which does not stay."""
    for name in ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_NCCL_DUMP_ON_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    log = ErrorLog(tmp_path / "run")
    log.trace_nccl()
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == str(tmp_path / "run/errors/nccl-trace-")
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    log.begin(lambda: 0)
    assert (tmp_path / "run/errors").is_dir()
    log.close()
    assert not (tmp_path / "run/errors").exists()
