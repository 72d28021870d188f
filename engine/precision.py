"""Mixed precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class Precision:
    """The type that matrix products run in; weights stay float32."""

    name: Literal["bf16", "fp16", "fp32"]
    device: torch.device

    @classmethod
    def choose(cls, name: PrecisionName, device: torch.device) -> Precision:
        """Resolve "auto": bf16 on a GPU that has it, else fp32."""
        if name != "auto":
            return cls(name, device)
        return cls("bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32", device)

    def autocast(self) -> torch.autocast:
        """Return the context that forward passes run in."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing unless the type is fp16, whose range is small."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")
