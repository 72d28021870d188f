"""All that `tools.doctor` examines, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.machine.finding import Finding, Probe
from tools.machine.software import OPTIONAL

TORCH_BACKEND: Final = "torch backend"
DALI: Final = "DALI backend"
_TORCH: Final = "pip install --upgrade torch torchvision; one must be built for the other"
_NO_TORCH: Final = "see to torch first"
_NO_PACKAGES: Final = "see to the packages first"
_NO_DALI: Final = "see to torch first; then reinstall DALI (pip install --force-reinstall nvidia-dali-cuda130)"


def probes(folder: Path) -> tuple[Probe, ...]:
    """Return what is examined.

    Args:
        folder: whose disk is measured.
    """
    path = (str(folder),)
    return (
        Probe("Python", "tools.machine.software:python"),
        Probe("packages", "tools.machine.software:packages", remedy="pip install packaging"),
        Probe("torch", "tools.machine.computing:torch_itself", if_it_fails="missing", remedy=_TORCH),
        Probe("torchvision", "tools.machine.computing:torchvision", if_it_fails="missing", remedy=_TORCH),
        Probe("NVIDIA driver", "tools.machine.driver:driver", remedy="update the NVIDIA driver"),
        Probe("GPU", "tools.machine.computing:gpu", remedy=_NO_TORCH),
        Probe("bf16", "tools.machine.computing:bf16", remedy=_NO_TORCH),
        Probe("torch.compile", "tools.machine.computing:compiler", remedy=_NO_TORCH),
        Probe(TORCH_BACKEND, "tools.machine.decoding:torch_backend", remedy="see to torch and the packages first"),
        Probe(DALI, "tools.machine.decoding:dali", remedy=_NO_DALI),
        Probe("JPEG engine", "tools.machine.decoding:jpeg_engine", remedy=_NO_DALI),
        Probe("cores", "tools.machine.resources:cores"),
        Probe("memory", "tools.machine.resources:memory"),
        Probe("shared memory", "tools.machine.resources:shared_memory"),
        Probe("open files", "tools.machine.resources:open_files", remedy=_NO_PACKAGES),
        Probe("disk", "tools.machine.storage:rate", path, if_it_fails="missing"),
        Probe("disk space", "tools.machine.storage:room", path),
        Probe("file locks", "tools.machine.storage:locks", path, remedy="see to the disk first"),
        Probe("compiled code", "tools.machine.caches:numba", remedy=_NO_PACKAGES),
        Probe("fonts", "tools.machine.caches:matplotlib", remedy=_NO_PACKAGES),
        *(Probe(part, "tools.machine.software:optional", (part,)) for part in OPTIONAL),
        Probe("apex", "tools.machine.software:apex"),
    )


def lacking(found: Mapping[str, Finding]) -> list[str]:
    """Return the subjects of findings without which nothing works; the backends are one, if neither decodes."""
    lacks = [subject for subject, finding in found.items() if finding.status == "missing"]
    if found[TORCH_BACKEND].status == found[DALI].status == "warning":
        lacks.append(f"{TORCH_BACKEND} or {DALI}")
    return lacks
