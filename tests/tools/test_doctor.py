"""``tools.doctor`` as a whole, on this machine and on one that lacks much."""

import os
import re
import subprocess
import sys

import pytest

from tests.tools.machine.environments import python_without
from tests.tools.shard_runs import ROOT
from tools import doctor
from tools.machine.finding import Finding
from tools.machine.probes import DALI, TORCH_BACKEND, lacking, probes

pytestmark = pytest.mark.slow

OK, WARNING = Finding("ok", ""), Finding("warning", "")


def run(*arguments, python=sys.executable, **variables):
    """Run the command; return its exit status, its lines by subject, its last line, and what it says besides."""
    done = subprocess.run(
        [python, "-m", "tools.doctor", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    *lines, verdict = done.stdout.splitlines() or [""]
    found, subject = {}, ""
    for line in lines:
        assert len(line) < 80 or "/" in line  # paths are not broken
        if begin := re.match(r"(ok|absent|warning|missing) +(\S+(?: \S+)*)  +(.*)", line):
            subject = begin[2]
            found[subject] = [begin[1], begin[3]]
        else:
            found[subject][1] += f" {line.strip()}"
    return done.returncode, found, verdict, done.stderr


def test_a_machine_on_which_the_tests_run_lacks_nothing_essential(tmp_path):
    status, found, verdict, errors = run("--path", tmp_path)
    assert list(found) == [probe.subject for probe in probes(tmp_path)]
    assert "missing" not in {kind for kind, _ in found.values()}
    assert verdict.startswith("nothing essential is missing; warnings: ")
    assert (status, errors) == (0, "")
    assert not list(tmp_path.iterdir())


def test_a_machine_that_lacks_nearly_everything_says_what_and_how_to_get_it(tmp_path):
    """No torch, no DALI, nothing that can be written."""
    python = python_without(tmp_path, "torch*", "nvidia", "nvidia_dali*", "pyarrow*")
    nowhere = dict.fromkeys(("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/nowhere")
    status, found, verdict, errors = run("--path", "/proc/self", python=python, **nowhere)
    assert list(found) == [probe.subject for probe in probes(tmp_path)]
    assert found["torch"][0] == found["torchvision"][0] == found["disk"][0] == "missing"
    assert "No module named 'torch' -> pip install --upgrade torch torchvision" in found["torch"][1]
    assert found["fonts"][0] == found[TORCH_BACKEND][0] == found[DALI][0] == "warning"
    assert found["parquet"][0] == "absent"
    assert found["packages"][0] == found["shared memory"][0] == "ok"
    assert verdict.startswith(f"missing: torch, torchvision, disk, {TORCH_BACKEND} or {DALI}; warnings: ")
    assert status == 1
    assert errors == ""


def test_one_backend_is_enough():
    fine = {TORCH_BACKEND: OK, DALI: OK, "bf16": WARNING}
    assert lacking(fine) == lacking(fine | {DALI: WARNING}) == lacking(fine | {TORCH_BACKEND: WARNING}) == []
    assert lacking(fine | {DALI: WARNING, TORCH_BACKEND: WARNING}) == [f"{TORCH_BACKEND} or {DALI}"]


def test_a_path_that_is_no_folder_is_refused(tmp_path, capsys):
    assert doctor.main(["--path", str(tmp_path / "none")]) == 2
    assert "which is no folder: give one that exists" in capsys.readouterr().err


def test_debug_shows_where_an_examination_failed(tmp_path, capfd, monkeypatch):
    shown = {probe.subject: probe for probe in probes(tmp_path / "none")}
    monkeypatch.setattr(doctor, "probes", lambda folder: [shown[name] for name in (TORCH_BACKEND, DALI, "disk space")])
    assert doctor.main(["--debug", "--path", str(tmp_path)]) == 0
    output, errors = capfd.readouterr()
    assert "disk space" in output
    assert "FileNotFoundError" in output
    assert errors.count("Traceback") == 1


def test_commands_start_without_torch_and_dali(tmp_path):
    """What every command line shares needs neither."""
    python = python_without(tmp_path, "torch*", "nvidia")
    code = "import engine.cli.command, loaders, loaders.errors, tools.doctor, tools.machine.probes"
    subprocess.run([python, "-c", code], cwd=ROOT, check=True)
