"""Checkpoints of the reference code (yc4ny/xR-EgoPose) as weights of our networks.

Its dictionaries hold ``resnet_state_dict`` (the heatmap network) and ``autoencoder_state_dict`` (the lifting network)
under the parameter names that ours have too, perhaps behind a ``module.`` from DataParallel.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

SECTIONS: Final = {"heatmap_net": "resnet_state_dict", "lifting_net": "autoencoder_state_dict"}
"""Our network -> the reference's section."""


def is_reference(checkpoint: dict[str, Any]) -> bool:
    """Whether a loaded file is a reference checkpoint."""
    return any(section in checkpoint for section in SECTIONS.values())


def from_reference(checkpoint: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Return {"heatmap_net": weights, "lifting_net": weights}, those that the checkpoint holds."""
    return {
        network: {name.removeprefix("module."): tensor for name, tensor in checkpoint[section].items()}
        for network, section in SECTIONS.items()
        if section in checkpoint
    }


def to_reference(weights: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the reference's sections for {"heatmap_net": ..., "lifting_net": ...}, either may be absent."""
    return {section: weights[network] for network, section in SECTIONS.items() if network in weights}
