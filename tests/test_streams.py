"""Standard streams that are closed, full or unread; bars and the lines beside them."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest

from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.progress import progress_bar, shown_log
from engine.cli.streams import forgiving_streams, lost_output
from loaders.errors import Failure

COMMANDS = (
    *(f"tools.{path.stem}" for path in Path("tools").glob("*.py") if "def main(" in path.read_text()),
    *(f"engine.{name}" for name in ("train", "evaluate", "infer")),
    *(f"benchmarks.{path.stem}" for path in Path("benchmarks").glob("*.py") if "def main(" in path.read_text()),
)
PIPE_CLOSED = 141
logger = logging.getLogger("engine.test")


@dataclass(frozen=True, kw_only=True)
class Flags(Command):
    """Flags of a command."""


def print_much(flags: Flags) -> int:
    for number in range(5000):
        sys.stdout.write(f"line {number}\n")
        sys.stderr.write(f"note {number}\n")
    return OK


def call(action: Callable[[Flags], int], *arguments: str) -> int:
    return command("test", "A test.")(action)(arguments)


def unread_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full_device() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize(("stream", "status"), [(unread_pipe, PIPE_CLOSED), (full_device, CHECK_FAILED)])
def test_lost_output_stops_no_work_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stream: Callable[[], TextIO],
    status: int,
) -> None:
    done = []

    def work(flags: Flags) -> int:
        print_much(flags)
        sys.stdout.flush()
        done.append(True)
        return OK

    given = stream()
    monkeypatch.setattr(sys, "stdout", given)
    assert call(work) == status
    assert done
    assert sys.stdout is given
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note")]
    if status == PIPE_CLOSED:
        assert not said
    else:
        (line,) = said
        assert line.startswith("test: error: standard output cannot be written (No space left on device)")


@pytest.mark.parametrize("stream", [unread_pipe, full_device])
def test_lost_notes_are_no_failure(monkeypatch: pytest.MonkeyPatch, stream: Callable[[], TextIO]) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    assert call(print_much) == OK


@pytest.mark.parametrize("stream", [unread_pipe, full_device])
def test_an_error_that_nobody_can_read_keeps_its_status(
    monkeypatch: pytest.MonkeyPatch, stream: Callable[[], TextIO]
) -> None:
    def fail(flags: Flags) -> int:
        print_much(flags)
        raise Failure("it does not hold")

    monkeypatch.setattr(sys, "stdout", stream())
    monkeypatch.setattr(sys, "stderr", stream())
    assert call(fail) == CHECK_FAILED


@pytest.mark.parametrize("name", COMMANDS)
def test_help_that_is_not_read_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.setattr(sys, "stdout", unread_pipe())
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main()
    assert stop.value.code == PIPE_CLOSED
    assert not capsys.readouterr().err


def test_names_that_are_no_text_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as given:
        monkeypatch.setattr(sys, "stdout", given)
        with forgiving_streams():
            sys.stdout.write("caf\udce9 é\n")
            assert lost_output() is None
    assert path.read_bytes() == b"caf\\udce9 \\xe9\n"


def test_a_pipe_that_does_not_block_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["wc", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(process.stdin))
    with forgiving_streams():
        sys.stdout.write("x" * 1_000_000)
    process.stdin.close()
    assert process.stdout.read() == b"1000000\n"
    process.wait()


PROGRAM = """
import sys
from tests.test_streams import call, print_much
sys.exit(call(print_much))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "status", "told"),
    [
        (">&-", CHECK_FAILED, 1),
        ("2>&- >/dev/null", OK, 0),
        (">&- 2>&- <&-", CHECK_FAILED, 0),
        (">/dev/full 2>/dev/full", CHECK_FAILED, 0),
        ("2>/dev/null | head -n 1 >/dev/null", PIPE_CLOSED, 0),
        ("2>&1 | head -n 1 >/dev/null", PIPE_CLOSED, 0),
        ("2> >(exec head -n 1 >/dev/null) >/dev/null", OK, 0),
    ],
)
def test_a_process_ends_without_a_word_of_the_interpreter(streams: str, status: int, told: int) -> None:
    line = f'"{sys.executable}" -c "$PROGRAM" {streams}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PROGRAM": PROGRAM}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("note")]
    assert len(said) == told, done.stderr


def on_a_terminal(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a terminal gets of standard error."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        work()
        stream.flush()
        os.set_blocking(ours, False)
        written = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                written += os.read(ours, 4096)
    os.close(ours)
    return written.decode()


def in_a_log(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    work()
    return stream.getvalue()


LONG = "/a/path/" + "of many folders/" * 20


@pytest.mark.parametrize("where", [on_a_terminal, in_a_log])
@pytest.mark.parametrize("closed", [True, False])
def test_an_error_has_a_line_of_its_own_whole(
    monkeypatch: pytest.MonkeyPatch, where: Callable[[Callable[[], None], pytest.MonkeyPatch], str], closed: bool
) -> None:
    def fail(flags: Flags) -> int:
        bar = progress_bar(total=10, unit="step")
        bar.update(3)
        bar.set_description("a step")
        logger.info("a note, which draws the bar again")
        if closed:
            bar.close()
        else:
            left.append(bar)
        raise Failure(f"{LONG} is full")

    left: list[object] = []
    written = where(lambda: assert_fails(fail), monkeypatch).replace("\r\n", "\n")
    # what a carriage return goes back over is drawn anew, or blank
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in written.split("\n")]
    assert f"test: error: {LONG} is full" in lines
    assert [line[9:] for line in lines if "note" in line] == ["a note, which draws the bar again"]
    if where is in_a_log:
        assert "\r" not in written


def assert_fails(action: Callable[[Flags], int]) -> None:
    assert call(action) == CHECK_FAILED


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with progress_bar(total=100, unit="step") as bar:
            for _ in range(2):
                bar.start_t -= 40
                bar.last_print_t -= 40
                bar.update(10)
                bar.update(10)
                bar.set_description("other")

    lines = in_a_log(work, monkeypatch).splitlines()
    assert [line.partition("%")[0].rpartition(" ")[2] for line in lines] == ["10", "30"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_log_record_is_one_line_with_its_time_and_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], processes: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("RANK", "0")
    others = logging.getLogger("another.package")
    with shown_log(), shown_log():
        logger.info("a\nname\x1b[31m")
        logger.warning("%d%% of it", 50)
        others.info("nothing for a user")
        others.warning("something")
    logger.info("after the command")
    rank = "" if processes == "1" else " rank 0:"
    lines = capsys.readouterr().err.splitlines()
    said = [r"a\nname\x1b[31m", "warning: 50% of it", "warning: something"]
    assert [re.sub(r"^\d\d:\d\d:\d\d", "", line) for line in lines] == [f"{rank} {text}" for text in said]


def test_a_log_that_nobody_can_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, full_device()):
        monkeypatch.setattr(sys, "stderr", stream)
        with shown_log():
            logger.info("a note")
