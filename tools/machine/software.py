"""Python, and the packages that this project needs or can use."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tools.machine.finding import Finding, first_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROJECT: Final = "egopose-engine"
"""Name under which this project is installed."""
MINIMUM: Final = (3, 11)
"""The oldest Python that will do."""
OPTIONAL: Final = {
    "export": ("ONNX (tools.export)", {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"}),
    "parquet": ("evaluate --per-frame parquet", {"pyarrow": "pyarrow"}),
    "timm": ("--model.backbone timm/NAME", {"timm": "timm"}),
    "cluster": ("tools.shard --scheduler", {"dask[distributed]": "distributed"}),
    "trackers": (
        "--log.to wandb and mlflow",
        {"alembic": "alembic", "mlflow-skinny": "mlflow", "sqlalchemy": "sqlalchemy", "wandb": "wandb"},
    ),
}
"""Optional part -> what needs it; its requirements and the modules that they bring."""
_EXAMINED_APART: Final = ("torch", "torchvision", "nvidia-dali-")
"""Beginnings of names of packages that probes of their own look for, and import."""


def python() -> Finding:
    """Compare the version of Python with the oldest one that will do."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] >= MINIMUM:
        return Finding("ok", found)
    least = ".".join(map(str, MINIMUM))
    return Finding("missing", found, f"make the virtual environment anew with Python {least} or newer")


def packages() -> Finding:
    """Import every package that is required, and compare its version with what is required."""
    from packaging.requirements import Requirement  # noqa: PLC0415

    try:
        required = importlib.metadata.requires(PROJECT) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "warning", "this project is not installed, so what it requires is unknown", "pip install --editable ."
        )
    requirements = [
        requirement
        for requirement in map(Requirement, required)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    faults = {requirement: fault for requirement in requirements if (fault := _fault(requirement))}
    if not faults:
        return Finding("ok", "all that are required are there, and fit")
    return Finding(
        "missing",
        "; ".join(faults.values()),
        f"pip install {shlex.join(f'{requirement.name}{requirement.specifier}' for requirement in faults)}",
    )


def _fault(requirement: Requirement) -> str:
    """Return what is wrong with an installed package; empty if it is fine."""
    name = requirement.name
    apart = name.startswith(_EXAMINED_APART)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "" if apart else f"{name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{name} is {version}, and {requirement.specifier} is needed"
    try:
        for module in () if apart else _modules(name):
            importlib.import_module(module)
    except Exception as error:
        return f"{name} {version} cannot be imported ({first_line(error)})"
    return ""


def _modules(distribution: str) -> Iterator[str]:
    """Yield the importable modules of an installed distribution."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    canonical = canonicalize_name(distribution)
    for module, owners in importlib.metadata.packages_distributions().items():
        if not module.startswith("_") and canonical in map(canonicalize_name, owners):
            yield module


def optional(part: str) -> Finding:
    """Look for the packages of an optional part."""
    user, requirements = OPTIONAL[part]
    lacking = [name for name, module in requirements.items() if importlib.util.find_spec(module) is None]
    if lacking:
        return Finding("absent", f"no {', '.join(lacking)}", f"for {user}: pip install {shlex.join(requirements)}")
    versions = [f"{name} {importlib.metadata.version(name.partition('[')[0])}" for name in requirements]
    return Finding("ok", ", ".join(versions))


def apex() -> Finding:
    """Look for NVIDIA Apex's fused optimizers."""
    try:
        importlib.import_module("apex.optimizers")
        importlib.import_module("amp_C")  # their kernels
    except ImportError as error:
        return Finding(
            "absent",
            first_line(error),
            "for --optim.apex: build NVIDIA Apex from its source with --cuda_ext; torch's fused optimizers do as well",
        )
    return Finding("ok", "its fused optimizers are there")
