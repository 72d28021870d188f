"""Both backends decode a JPEG here; DALI that is absent, doubled or broken is a line."""

import pytest
import torch

from tests.tools.machine.environments import add_distribution, examine, python_without, site_packages
from tools.machine import decoding
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow

pytest.importorskip("nvidia.dali")
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


def test_both_backends_decode():
    assert decoding.torch_backend().status == "ok"
    finding = decoding.dali()
    assert finding.status == "ok"
    assert "decodes JPEGs on the CPU" in finding.found


def test_dali_that_is_absent_leaves_the_torch_backend(tmp_path):
    python = python_without(tmp_path, "nvidia/dali", "nvidia_dali*")
    assert examine("decoding:dali", python=python) == Finding(
        "warning", "not installed: data.backend torch decodes", "pip install nvidia-dali-cuda130"
    )
    assert examine("decoding:torch_backend", python=python).status == "ok"


def test_two_builds_of_dali_share_their_files(tmp_path):
    python = python_without(tmp_path)
    add_distribution(python, "nvidia-dali-cuda120", "2.4.0")
    finding = examine("decoding:dali", python=python)
    assert finding.status == "warning"
    assert finding.found == "nvidia-dali-cuda120 and nvidia-dali-cuda130 are both installed, and share their files"
    assert finding.remedy.startswith("pip uninstall nvidia-dali-cuda120 nvidia-dali-cuda130, then pip install nvidia-")


def test_dali_without_its_library_is_a_warning(tmp_path):
    """As it is left by removing one of two builds."""
    python = python_without(tmp_path, "nvidia/dali")
    (site_packages(python) / "nvidia" / "dali").mkdir()
    finding = examine("decoding:dali", python=python)
    assert finding.status == "warning"
    assert "nvidia.dali" in finding.found


@cpu_only
def test_without_a_gpu_the_cpu_decodes():
    assert decoding.jpeg_engine() == Finding("absent", "no GPU that torch can use: JPEGs are decoded on the CPU")


@cpu_only
def test_a_gpu_that_has_no_engine_is_no_failure(monkeypatch):
    """The library refuses here, for want of a GPU, as it does for want of an engine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    finding = decoding.jpeg_engine()
    assert finding.status == "absent"
    assert finding.found.endswith(": CUDA and the CPU decode JPEGs")
