"""Python, packages and optional parts: what is installed, too old, broken or absent."""

import importlib.metadata
import sys

import pytest

from tests.tools.machine.environments import examine, python_without
from tests.tools.shard_runs import ROOT
from tools.machine import software
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow

REQUIRED = ["numpy>=99", "torch>=99", "nvidia-dali-cuda110", "pillow", "nothing>1; sys_platform == 'plan9'"]


def test_this_python_will_do():
    finding = software.python()
    assert finding.status == "ok"
    assert finding.found.startswith("{}.{}.{} ".format(*sys.version_info))


def test_an_older_python_will_not(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    finding = software.python()
    assert finding.status == "missing"
    assert finding.remedy == "make the virtual environment anew with Python 3.11 or newer"


def test_installed_packages_fit():
    assert software.packages().status == "ok"


def test_packages_that_are_absent_or_broken_are_named(tmp_path):
    """Numba is there, and cannot be imported without llvmlite."""
    python = python_without(tmp_path, "simplejpeg*", "llvmlite")
    finding = examine("software:packages", python=python)
    assert finding.status == "missing"
    assert "simplejpeg is not installed" in finding.found
    assert "cannot be imported (No module named 'llvmlite')" in finding.found
    assert finding.remedy == "pip install llvmlite numba simplejpeg"


def test_a_package_that_is_too_old_is_named_with_both_versions(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED)
    numpy, torch = map(importlib.metadata.version, ("numpy", "torch"))
    assert software.packages() == Finding(
        "missing",
        f"numpy is {numpy}, and >=99 is needed; torch is {torch}, and >=99 is needed",
        "pip install 'numpy>=99' 'torch>=99'",
    )


def test_a_checkout_that_is_not_installed_says_so(tmp_path):
    checkout = tmp_path / "checkout"  # one without the .egg-info that an editable installation leaves in it
    checkout.mkdir()
    for name in ("engine", "loaders", "models", "tools"):
        (checkout / name).symlink_to(ROOT / name)
    python = python_without(tmp_path / "venv", "*egopose_engine*")
    finding = examine("software:packages", python=python, cwd=checkout)
    assert (finding.status, finding.remedy) == ("warning", "pip install --editable .")


@pytest.mark.parametrize("part", software.OPTIONAL)
def test_optional_parts(tmp_path, part):
    pytest.importorskip(next(iter(software.OPTIONAL[part][1].values())))
    assert software.optional(part).status == "ok"


def test_optional_parts_that_are_absent_say_how_to_get_them(tmp_path):
    python = python_without(tmp_path, "onnxruntime", "pyarrow", "distributed")
    assert examine("software:optional", "export", python=python) == Finding(
        "absent", "no onnxruntime", "for ONNX (tools.export): pip install onnx onnxruntime onnxscript"
    )
    assert examine("software:optional", "parquet", python=python) == Finding(
        "absent", "no pyarrow", "for evaluate --per-frame parquet: pip install pyarrow"
    )
    assert examine("software:optional", "cluster", python=python) == Finding(
        "absent", "no dask[distributed]", "for tools.shard --scheduler: pip install 'dask[distributed]'"
    )


def test_the_other_package_named_apex_is_not_taken_for_nvidias(tmp_path):
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").touch()
    finding = examine("software:apex", PYTHONPATH=str(tmp_path))
    assert finding.status == "absent"
    assert "apex.optimizers" in finding.found
    assert "from its source" in finding.remedy
