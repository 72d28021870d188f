"""Mixed precision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch

from loaders.errors import warn_once

PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]

_INSTRUCTIONS: Final = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
"""Type -> instruction sets with which a CPU multiplies matrices of it natively; one of them suffices."""


@dataclass(frozen=True)
class Precision:
    """The type that matrix products run in; weights stay float32."""

    name: Literal["bf16", "fp16", "fp32"]
    device: torch.device

    @classmethod
    def choose(cls, name: PrecisionName, device: torch.device) -> Precision:
        """Resolve "auto": bf16 where the device computes in it natively, else fp32.

        Warns if the device emulates the type that was asked for.
        """
        if name == "auto":
            return cls("bf16" if is_native("bf16", device) else "fp32", device)
        if not is_native(name, device):
            warn_once(
                f"native {name}",
                f"this {'GPU' if device.type == 'cuda' else 'CPU'} emulates {name}, which can take 20 times as long as "
                "fp32: precision auto chooses a type that the device computes in natively",
            )
        return cls(name, device)

    def autocast(self) -> torch.autocast:
        """Return the context that forward passes run in."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing unless the type is fp16, whose range is small."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def is_native(name: Literal["bf16", "fp16", "fp32"], device: torch.device) -> bool:
    """Return whether the device has instructions for matrix products of this type."""
    if name == "fp32":
        return True
    if device.type == "cuda":
        return name == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN answers yes for any AVX-512, and no where ONEDNN_MAX_CPU_ISA forbids it
    allowed: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return allowed and not _cpu_instructions().isdisjoint(_INSTRUCTIONS[name])


def _cpu_instructions() -> set[str]:
    """Return the names, as Linux has them, of the CPU's instruction sets."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    # an older torch has no such function
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return set(flags[1].split()) if flags else set()
