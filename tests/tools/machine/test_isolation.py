"""A probe that ends its process, or never ends, costs its own line and no other."""

import os
import signal
import sys
import time

import pytest

from tools.machine.finding import Finding, Layout, Probe
from tools.machine.isolation import findings

pytestmark = pytest.mark.slow

HERE = "tests.tools.machine.test_isolation"


def fine(text="fine"):
    sys.stdout.write("noise")
    os.write(2, b"noise")
    return Finding("ok", text)


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def leave():
    os._exit(3)


def sleep():
    time.sleep(60)


def fail():
    raise ValueError("the first line\nthe second")


def test_what_breaks_is_a_line_and_the_rest_goes_on(capfd):
    names = ["fine", "crash", "fail", "leave", "fine", "gone"]
    probes = [Probe(name, f"{HERE}:{name}", remedy="mend it") for name in names]
    probes[1] = Probe("crash", f"{HERE}:crash", if_it_fails="missing", remedy="mend it")
    found = list(findings(probes))
    assert [probe for probe, _ in found] == probes
    results = [(finding.status, finding.found, finding.remedy) for _, finding in found]
    assert results[:5] == [
        ("ok", "fine", ""),
        ("missing", "examining it ended the process (SIGSEGV)", "mend it"),
        ("warning", "ValueError: the first line", "mend it"),
        ("warning", "examining it ended the process (exit status 3)", "mend it"),
        ("ok", "fine", ""),
    ]
    assert results[5][0] == "warning"
    assert 'raise ValueError("the first line' in found[2][1].traceback
    assert capfd.readouterr() == ("", "")


def test_what_never_ends_is_ended():
    probes = [Probe("sleep", f"{HERE}:sleep"), Probe("fine", f"{HERE}:fine", ("after",))]
    (_, slow), (_, fast) = findings(probes, seconds=3)
    assert slow.found == "no answer within 3 s"
    assert fast == Finding("ok", "after")


@pytest.mark.parametrize("width", [60, 100])
def test_lines_are_aligned_and_narrow(width):
    layout = Layout(["GPU", "shared memory"], width)
    text = layout.lines("GPU", Finding("warning", "word " * 30, "/a/long/path" * 12 + " mend it"))
    lines = text.splitlines()
    assert lines[0].startswith("warning  GPU            word word")
    assert all(line.startswith(" " * 24) for line in lines[1:])
    assert sum("-> " in line for line in lines) == 1
    assert all(len(line) < width for line in lines if "/a/long/path" not in line)
    assert layout.lines("shared memory", Finding("ok", "a\nb")) == "ok       shared memory  a\\nb\n"
