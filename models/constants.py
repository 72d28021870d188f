"""Tensors that never change."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

OnDevice = Callable[[torch.device], Tensor]


def made_once(make: OnDevice) -> OnDevice:
    """Decorate what makes a constant tensor on a device: it is made once for each, and compiled code takes it as it is.

    Making it anew would copy it to the device, and wait for that, at every step.
    """
    made = functools.cache(make)

    def get(device: torch.device) -> Tensor:
        with torch.inference_mode(False):
            return made(device)

    # unmarked, compiled code would make it anew from the host's memory
    marked: OnDevice = torch.compiler.assume_constant_result(get)
    return marked
