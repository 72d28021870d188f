"""Caches that can be written, and cannot."""

import shutil

import pytest

from tests.tools.machine.environments import examine
from tests.tools.shard_runs import ROOT

pytestmark = pytest.mark.slow


def test_compiled_code(tmp_path):
    finding = examine("caches:numba", NUMBA_CACHE_DIR=str(tmp_path))
    assert finding.status == "ok"
    assert str(tmp_path) in finding.found


def test_compiled_code_that_cannot_be_kept(tmp_path):
    """Not even by root: files stand where folders would have to."""
    for package in ("engine", "loaders", "models", "tools"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "loaders" / "__pycache__").touch()
    nowhere = dict.fromkeys(("HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"), "/proc/nowhere")
    finding = examine("caches:numba", cwd=tmp_path, **nowhere)
    assert finding.status == "warning"
    assert finding.remedy == "set NUMBA_CACHE_DIR to a writable folder"


def test_fonts(tmp_path):
    finding = examine("caches:matplotlib", MPLCONFIGDIR=str(tmp_path))
    assert (finding.status, finding.found) == ("ok", f"kept in {tmp_path}")
    for variables in (
        {"MPLCONFIGDIR": "/proc/nowhere"},
        {"MPLCONFIGDIR": "", "XDG_CACHE_HOME": "", "HOME": "/proc/no"},
    ):
        finding = examine("caches:matplotlib", **variables)
        assert finding.status == "warning"
        assert finding.remedy == "set MPLCONFIGDIR to a writable folder"
