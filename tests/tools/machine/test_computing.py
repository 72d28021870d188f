"""torch and what it computes on; `tests/engine/test_device.py` and `test_precision.py` hold what is asked."""

import pytest
import torch

from engine import device
from tests.tools.machine.environments import examine, python_without
from tools.machine import computing
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow


def test_torch_tells_what_it_is_built_for(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert computing.torch_itself() == Finding("ok", f"{torch.__version__}, built for CUDA 13.2")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert computing.torch_itself() == Finding("ok", f"{torch.__version__}, built for CPUs alone")


def test_torchvision_that_fits_runs_an_operator():
    assert computing.torchvision().status == "ok"


def test_torchvision_of_another_torch_has_no_operators(tmp_path):
    """Its compiled part does not load then, which importing it does not tell by itself."""
    finding = examine("computing:torchvision", python=python_without(tmp_path, "torchvision/_C*.so"))
    assert finding.status == "warning"
    assert "torchvision::nms" in finding.found


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of this machine can be used")
def test_a_gpu_that_torch_cannot_use_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(device, "GPU_FILES", (str(tmp_path / "nvidia[0-9]*"),))
    finding = computing.gpu()
    assert finding.status == "warning"
    assert finding.found.startswith(f"there is a GPU, but torch {torch.__version__}, built for ")
    assert finding.remedy.startswith("update the NVIDIA driver")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of this machine can be used")
def test_no_gpu_is_no_fault(monkeypatch):
    monkeypatch.setattr(device, "GPU_FILES", ("/nowhere/nvidia[0-9]*",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert computing.gpu() == Finding("absent", "torch sees none: everything is computed on the CPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in computing.gpu().found


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")
def test_bf16_says_what_auto_takes():
    limited = examine("computing:bf16", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    assert limited == Finding("absent", "the CPU has no instructions for it: --precision auto is fp32")
    if computing.is_native("bf16", torch.device("cpu")):
        assert computing.bf16() == Finding("ok", "native on the CPU: --precision auto is bf16")


def test_torch_compile_needs_a_compiler_and_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "ls")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    finding = computing.compiler()
    assert finding.status == "ok"
    assert finding.found.endswith(f"/ls, cache in {tmp_path / 'cache'}")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/nowhere")
    assert computing.compiler() == Finding(
        "warning",
        "its cache /proc/nowhere: No such file or directory",
        "set TORCHINDUCTOR_CACHE_DIR to a writable folder",
    )
    monkeypatch.setenv("CXX", "no-such-compiler")
    finding = computing.compiler()
    assert (finding.status, finding.found) == ("absent", "no compiler no-such-compiler")
