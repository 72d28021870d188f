"""Weights of our networks in the dictionaries of others: the reference code (yc4ny/xR-EgoPose), bare state dicts.

The reference's dictionaries hold ``resnet_state_dict`` (the heatmap network) and ``autoencoder_state_dict`` (the
lifting network) under the parameter names that ours have too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

SECTIONS: Final = {"heatmap_net": "resnet_state_dict", "lifting_net": "autoencoder_state_dict"}
"""Our network -> the reference's section."""
_DISTINCTIVE: Final = {"heatmap_net": "final_layer.weight", "lifting_net": "b1_fc1.weight"}
"""Our network -> a parameter that no other network has."""
_NESTED_IN: Final = ("state_dict", "model_state_dict", "model")
"""Keys behind which training scripts put a state dict."""
_WRAPPERS: Final = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
"""What DataParallel puts in front of parameter names, and torch.compile also within them."""


def from_reference(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"heatmap_net": state dict, "lifting_net": state dict} as far as the dictionary holds them, unchecked.

    Args:
        checkpoint: the reference's dictionary, or the state dict of either network or of a `PoseNet`.
    """
    sections = {network: checkpoint[section] for network, section in SECTIONS.items() if section in checkpoint}
    if sections:
        return sections
    inner = (checkpoint.get(key) for key in _NESTED_IN)
    state = unwrapped(next((state for state in inner if isinstance(state, dict)), checkpoint))
    for network, parameter in _DISTINCTIVE.items():
        if parameter in state:
            return {network: state}
    parts = {
        network: {name.removeprefix(f"{network}."): state[name] for name in state if name.startswith(f"{network}.")}
        for network in SECTIONS
    }
    return {network: part for network, part in parts.items() if part}


def unwrapped(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a state dict under the network's own parameter names; `DataParallel` and `torch.compile` add to them."""
    return {_WRAPPERS.sub("", str(name)): tensor for name, tensor in state.items()}


def to_reference(weights: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the reference's sections for {"heatmap_net": ..., "lifting_net": ...}, either may be absent."""
    return {section: weights[network] for network, section in SECTIONS.items() if network in weights}
