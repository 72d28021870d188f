"""The device to compute on, and why the GPU of this machine may be of no use."""

from __future__ import annotations

import glob
import os
import shutil
import warnings
from typing import Final

import torch

from loaders.errors import InputError, warn_once
from loaders.system.cores import cores_per_process

GPU_FILES: Final = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Where Linux, and Windows' Linux, show NVIDIA GPUs."""


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


def check_compiler(mode: str, device: torch.device) -> None:
    """Raise InputError if torch.compile is to run on a CPU without a compiler, which would show at the first step."""
    if mode == "off" or device.type != "cpu":
        return
    name, path = cxx_compiler()
    if path is None:
        raise InputError(
            f"compile is {mode}, and there is no compiler {name}: "
            "apt install g++, name yours in CXX, or take --compile off"
        )
