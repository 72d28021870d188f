"""torch, and what it computes on."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch

from engine.device import cxx_compiler, gpu_fault
from engine.precision import is_native
from tools.machine.finding import Finding, expect


def torch_itself() -> Finding:
    """Multiply two matrices."""
    _multiply(torch.device("cpu"))
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs alone"
    return Finding("ok", f"{torch.__version__}, {built}")


def torchvision() -> Finding:
    """Run an operator of torchvision, which only loads beside the torch that it was built for."""
    import torchvision  # noqa: PLC0415

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    expect([0], torchvision.ops.nms(boxes, torch.tensor([1.0, 0.5]), 0.5).tolist())
    return Finding("ok", f"{torchvision.__version__}, fits torch")


def gpu() -> Finding:
    """Multiply two matrices on every GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own account of an old driver
        usable = torch.cuda.is_available()
    if not usable:
        if fault := gpu_fault():
            found, _, remedy = fault.partition("; ")
            return Finding("warning", found, remedy)
        hidden = ", which CUDA_VISIBLE_DEVICES may hide" if "CUDA_VISIBLE_DEVICES" in os.environ else ""
        return Finding("absent", f"torch sees none{hidden}: everything is computed on the CPU")
    count = torch.cuda.device_count()
    for number in range(count):
        _multiply(torch.device("cuda", number))
    return Finding("ok", f"{count}; torch computes on each")


def _multiply(device: torch.device) -> None:
    ones = torch.ones(8, 8, device=device)
    expect(8.0**3, float(ones.matmul(ones).sum()))


def bf16() -> Finding:
    """Ask whether the device multiplies matrices of bf16 natively."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = "GPU" if device.type == "cuda" else "CPU"
    if is_native("bf16", device):
        return Finding("ok", f"native on the {name}: --precision auto is bf16")
    return Finding("absent", f"the {name} has no instructions for it: --precision auto is fp32")


def compiler() -> Finding:
    """Look for the compiler and the cache of torch.compile."""
    name, path = cxx_compiler()
    if path is None:
        return Finding("absent", f"no compiler {name}", "for --compile: apt install g++, or name yours in CXX")
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"its cache {folder}: {error.strerror}"
        return Finding("warning", found, "set TORCHINDUCTOR_CACHE_DIR to a writable folder")
    return Finding("ok", f"{path}, cache in {folder}")
