"""Worker processes: who may start them, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cli.command import BAD_INPUT, CHECK_FAILED, INTERRUPTED
from tests.processes import workers_of
from tests.tools.shard_runs import ROOT

pytestmark = pytest.mark.slow

SYNTHESIZE = """
from tools.synthesize import main
status = main(["--output", "{output}", "--train-subjects", "2", "--val-subjects", "0", "--test-subjects", "0",
               "--frames-per-subject", "2", "--modalities", "json", "--workers", "2"])
"""
DIRECTLY = """
import sys
from engine.cli.command import InputError
from tools.parallel import Meter, over_processes
try:
    with Meter(2, "number", "powers") as meter:
        over_processes(pow, [1, 4], 2, meter)
except InputError as error:
    sys.exit(f"told: {{error}}")
"""


def python(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], input=stdin, capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("program", [SYNTHESIZE, DIRECTLY])
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path, program: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(program.format(output=tmp_path / "data") + "import sys\nsys.exit(status)\n")
    done = python(str(script))
    assert done.returncode in (BAD_INPUT, CHECK_FAILED)
    (line,) = done.stderr.splitlines()
    assert f'{script} does not let them: put the call below a main guard (`if __name__ == "__main__":`)' in line
    assert "memory" not in line


def test_a_script_with_a_main_guard_works(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    body = SYNTHESIZE.format(output=tmp_path / "data").strip().replace("\n", "\n    ")
    script.write_text(f'if __name__ == "__main__":\n    {body}\n    raise SystemExit(status)\n')
    done = python(str(script))
    assert done.returncode == 0, done.stderr


def test_a_program_from_standard_input_is_told_so(tmp_path: Path) -> None:
    done = python("-", stdin=SYNTHESIZE.format(output=tmp_path / "data") + "raise SystemExit(status)\n")
    assert done.returncode == BAD_INPUT
    (line,) = done.stderr.splitlines()
    assert "worker processes must read the script that starts them, and <stdin> is no file: save it as one" in line


def start(tmp_path: Path) -> subprocess.Popen[str]:
    flags = ["--output", str(tmp_path / "data"), "--frames-per-subject", "200", "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "tools.synthesize", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("working", [False, True])
def test_an_interrupt_is_one_line_whatever_the_workers_do(tmp_path: Path, working: bool) -> None:
    """A terminal's Ctrl-C reaches all processes, also workers that are still starting."""
    process = start(tmp_path)
    while len(workers_of(process)) < 2 or (working and not any(tmp_path.glob("data/TrainSet/*/*/*/*/*"))):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said == "tools.synthesize: interrupted\n"
    assert process.returncode == INTERRUPTED
