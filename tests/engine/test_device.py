import os
import sysconfig

import pytest
import torch

from engine import device
from engine.device import choose_device, choose_kernels, compiler_fault, gpu_fault
from loaders import errors
from loaders.errors import InputError

GPU = torch.device("cuda", 0)
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of this machine can be used")


@pytest.fixture
def unusable_gpu(tmp_path, monkeypatch):
    """A file where Linux shows a GPU; torch, which cannot use it, says itself why."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(device, "GPU_FILES", (str(tmp_path / "nvidia[0-9]*"),))
    monkeypatch.setattr(errors, "_WARNED", set())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_that_cannot_be_used_is_said_in_one_line(unusable_gpu, caplog):
    assert choose_device("auto") == torch.device("cpu")
    (said,) = caplog.messages
    assert said.startswith(f"computing on the CPU: there is a GPU, but torch {torch.__version__}, built for ")
    assert "update the NVIDIA driver" in said
    assert "\n" not in said


def test_asking_for_a_gpu_that_cannot_be_used_is_refused(unusable_gpu):
    with pytest.raises(InputError, match=r"device is cuda; there is a GPU, but torch .* cannot use it"):
        choose_device("cuda")


def test_a_hidden_gpu_and_a_cpu_that_is_asked_for_are_no_news(unusable_gpu, monkeypatch, caplog):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == torch.device("cpu")
    assert not caplog.messages


def test_no_gpu_is_no_fault(monkeypatch):
    monkeypatch.setattr(device, "GPU_FILES", ("/nowhere/nvidia[0-9]*",))
    assert gpu_fault() == ""
    with pytest.raises(InputError, match="this machine shows no GPU"):
        choose_device("cuda")


@pytest.fixture
def kernels(monkeypatch):
    """Return a function that says how the process computes; it is put back in the end."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def state():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(),
        )

    deterministic, *before = state()
    yield state
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before[:2]
    torch.set_float32_matmul_precision(before[2])


def test_a_gpu_takes_the_fastest_kernels_or_those_that_repeat_themselves(kernels):
    choose_kernels(GPU, deterministic=False, matmul_precision="high")
    assert kernels() == (False, True, True, "high")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    choose_kernels(GPU, deterministic=True, matmul_precision="highest")
    assert kernels() == (True, False, False, "highest")
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_cpu_computes_as_ever(kernels):
    before = kernels()
    choose_kernels(torch.device("cpu"), deterministic=True, matmul_precision="medium")
    assert kernels() == before


def test_what_triton_lacks_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler_fault(GPU) == "there is no compiler gcc or clang: apt install gcc, name yours in CC"
    (tmp_path / "clang").touch(0o755)
    assert compiler_fault(GPU).startswith("Python's headers, against which Triton compiles, are not there: apt install")
    (tmp_path / "Python.h").touch()
    assert compiler_fault(GPU) == ""
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiler_fault(GPU).startswith("there is no compiler no-such-compiler")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert "compute capability 7.0" in compiler_fault(GPU)
