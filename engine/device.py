"""The device to compute on, how it computes, and why the GPU of this machine may be of no use."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Final, Literal

import torch
from torch import nn

from loaders.errors import InputError, warn_once
from loaders.system.cores import cores_per_process

MatmulPrecision = Literal["highest", "high", "medium"]

GPU_FILES: Final = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Where Linux, and Windows' Linux, show NVIDIA GPUs."""
_TRITON_CAPABILITY: Final = (7, 0)


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on a device, in channels_last where weights have the four dimensions for it."""
    model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:  # as Module.to does, which refuses those of five
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return model


def choose_device(device: str) -> torch.device:
    """Return "auto" (the GPU of this process if there is one), "cpu" or "cuda" as a device, made the current one.

    Raises InputError if "cuda" is asked for and torch cannot use one. "auto" then takes the CPU, and warns if there is
    a GPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own account of an old driver, which follows in one line
        usable = device != "cpu" and torch.cuda.is_available()
    if not usable:
        fault = gpu_fault()
        if device == "cuda":
            raise InputError(f"device is cuda; {fault or 'this machine shows no GPU'}: take --device cpu")
        if device == "auto" and fault:
            warn_once("unusable GPU", f"computing on the CPU: {fault}; --device cpu if that is meant")
        if "OMP_NUM_THREADS" not in os.environ:  # torch counts the cores of the machine, whatever the quota
            torch.set_num_threads(min(torch.get_num_threads(), cores_per_process()))
        return torch.device("cpu")
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


def gpu_fault() -> str:
    """Return why torch cannot use the GPU of this machine, and the remedy; empty if there is no GPU, or if it can."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not any(map(glob.glob, GPU_FILES)):
        return ""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # the first if torch was built without CUDA
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone"
        return (
            f"there is a GPU, but torch {torch.__version__}, built for {built_for}, cannot use it ({reason}); update "
            "the NVIDIA driver, or install a torch that was built for the CUDA version that nvidia-smi shows"
        )
    return ""


def cxx_compiler() -> tuple[str, str | None]:
    """Return name and path of the compiler that torch.compile takes on a CPU, CXX or g++; no path if there is none."""
    name = os.environ.get("CXX") or "g++"
    return name, shutil.which(name)


def compiler_fault(device: torch.device) -> str:
    """Return what torch.compile lacks to compile for a device, and the remedy; empty if nothing."""
    if device.type == "cpu":
        name, path = cxx_compiler()
        return "" if path else f"there is no compiler {name}: apt install g++, name yours in CXX"
    if importlib.util.find_spec("triton") is None:
        return "there is no package triton, which comes with torch for Linux: pip install --force-reinstall torch"
    if torch.cuda.get_device_capability(device) < _TRITON_CAPABILITY:
        return "Triton compiles for GPUs of compute capability 7.0 and above: take a newer GPU"
    # Triton builds the functions that start its kernels, with the compiler it finds in this order
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(map(shutil.which, names)):
        return f"there is no compiler {' or '.join(names)}: apt install gcc, name yours in CC"
    if not Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"Python's headers, against which Triton compiles, are not there: apt install python{version}-dev"
    return ""


def choose_kernels(device: torch.device, *, deterministic: bool, matmul_precision: MatmulPrecision) -> None:
    """Set for this process how a GPU computes; a CPU is left as it is: it gives the same bits every time.

    Args:
        device: where to compute.
        deterministic: take kernels that give the same bits every time, where torch has them; it warns of others. Else
            cuDNN times the kernels for each new shape, and takes the fastest.
        matmul_precision: as `torch.set_float32_matmul_precision` has it, for convolutions as well.
    """
    if device.type != "cuda":
        return
    if deterministic:  # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = matmul_precision != "highest"
    torch.set_float32_matmul_precision(matmul_precision)
