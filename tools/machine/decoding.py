"""What decodes images: the two backends of the loaders, and the JPEG engine of a GPU."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

import loaders.torch_loader  # noqa: F401 - whether it can be imported is a part of the question
from loaders.codecs import decode_stored, encode
from loaders.config import ReaderConfig
from models.xr_egopose import CAMERA
from tools.machine.driver import DriverError, read_driver
from tools.machine.finding import Finding, expect, first_line

_SIDE: Final = 368
_BUILDS: Final = {"nvidia-dali-cuda120": 12, "nvidia-dali-cuda130": 13}
"""Distribution of DALI -> the CUDA that it is built for (major version)."""


def torch_backend() -> Finding:
    """Decode a JPEG as `data.backend` torch does."""
    expect((_SIDE, _SIDE, 3), decode_stored(_jpeg(), "rgba.jpg").shape)
    return Finding("ok", "decodes JPEGs on the CPU")


def dali() -> Finding:
    """Decode a JPEG as `data.backend` dali does, on the CPU, and on a GPU that torch and DALI fit."""
    installed = {name: version for name in _BUILDS if (version := _version(name))}
    if not installed:
        return Finding("warning", "not installed: data.backend torch decodes", f"pip install {_fitting_build()}")
    if len(installed) > 1:
        names = list(installed)
        remedy = f"pip uninstall {' '.join(names)}, then pip install {_fitting_build()}"
        return Finding("warning", f"{' and '.join(names)} are both installed, and share their files", remedy)
    [(name, version)] = installed.items()
    expect((_SIDE, _SIDE, 3), _shape_by_dali(torch.device("cpu")))
    found = f"{version}, built for CUDA {_BUILDS[name]}, decodes JPEGs on the CPU"
    if fault := _misfit(_BUILDS[name]):
        return Finding("warning", f"{found}; {fault}", _remedy(name))
    if torch.cuda.is_available():
        expect((_SIDE, _SIDE, 3), _shape_by_dali(torch.device("cuda:0")))
        found += " and the GPU"
    return Finding("ok", found)


def jpeg_engine() -> Finding:
    """Decode a JPEG by the GPU's own engine alone."""
    if not torch.cuda.is_available():
        return Finding("absent", "no GPU that torch can use: JPEGs are decoded on the CPU")
    from nvidia import nvimgcodec  # noqa: PLC0415

    try:
        decoder = nvimgcodec.Decoder(device_id=0, backends=[nvimgcodec.Backend(nvimgcodec.HW_GPU_ONLY)])
        image = decoder.decode(nvimgcodec.CodeStream(_jpeg().tobytes()))
    except RuntimeError as error:
        return Finding("absent", f"none answers ({first_line(error)}): CUDA and the CPU decode JPEGs")
    if image is None:
        return Finding("absent", "it does not take the storage format's JPEGs: CUDA and the CPU decode them")
    return Finding("ok", f"decodes JPEGs of {image.shape[1]} x {image.shape[0]} pixels")


def _jpeg() -> NDArray[np.uint8]:
    """Return a JPEG as shards store it (bytes)."""
    ramp = np.linspace(0, 255, _SIDE).astype(np.uint8)
    image = np.stack([np.broadcast_to(ramp, (_SIDE, _SIDE))] * 3, axis=2)
    return np.frombuffer(encode(image, ".jpg"), np.uint8)


def _shape_by_dali(device: torch.device) -> tuple[int, ...]:
    """Return the shape of a JPEG decoded by the graph that training uses."""
    from loaders.dali.graph import GraphSpec, ImageSpec, random_access_graph  # noqa: PLC0415
    from loaders.dali.pipeline import Pipelines  # noqa: PLC0415

    spec = GraphSpec(
        images=(ImageSpec(encoded=True),),
        stored=CAMERA.cropped("square", _SIDE),
        window=(0, 0, _SIDE),
        image_size=_SIDE,
        moves=False,
        jitters_color=False,
        device="gpu" if device.type == "cuda" else "cpu",
        hw_decoder_load=ReaderConfig.hw_decoder_load,
    )
    pipelines = Pipelines(batch_size=1, threads=1, prefetch=1, device=device)
    data = [_jpeg()]
    (images,) = pipelines.run(pipelines.build(random_access_graph, lambda: (data,), spec))
    shape: tuple[int, ...] = images.shape()[0]
    return shape


def _misfit(cuda: int) -> str:
    """Return what DALI's CUDA (major version) does not fit; empty if it fits, or if there is no GPU."""
    driver = _cuda_of_driver()
    if driver is None:
        return ""
    if driver < cuda:
        return f"the driver runs CUDA {driver} at most"
    built = torch.version.cuda
    return f"torch is built for CUDA {built}" if built and int(built.partition(".")[0]) != cuda else ""


def _remedy(installed: str) -> str:
    """Return how to come from a build of DALI to one that fits."""
    fitting = _fitting_build()
    if installed == fitting:
        return "install a torch that was built for the same CUDA, or update the NVIDIA driver"
    return f"pip uninstall {installed}, then pip install {fitting}"


def _fitting_build() -> str:
    """Return the distribution of DALI for the driver; that for the newest CUDA if there is none."""
    driver = _cuda_of_driver() or 0
    return "nvidia-dali-cuda120" if driver == 12 else "nvidia-dali-cuda130"


@functools.cache
def _cuda_of_driver() -> int | None:
    """Return the newest CUDA that the driver runs (major version); None without a driver that works."""
    try:
        driver = read_driver()
    except DriverError:
        return None
    return driver.cuda[0] if driver and driver.gpus else None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
