import pytest
import torch

from engine import device
from engine.device import choose_device, gpu_fault
from loaders import errors
from loaders.errors import InputError

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
