"""Pretrained backbones of heatmap networks: out of a file, or out of the internet by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torchvision
from torch import Tensor

from engine.checkpoint import format as checkpoint
from engine.stages.base import ModelConfig
from loaders.errors import InputError
from models.heatmap_net import Backbone, HeatmapNet


def load_pretrained(net: HeatmapNet, config: ModelConfig) -> None:
    """Give a heatmap network the pretrained backbone that the configuration asks for, if any."""
    if config.pretrained is None:
        return
    path = Path(config.pretrained)
    state = checkpoint.load_state_dict(path) if path.exists() else _download(config.pretrained, config.backbone)
    own = net.state_dict()
    for name in own:
        # older files do not count batches, nor does anything depend on it
        if name.startswith(("deconv_layers.", "final_layer.")) or name.endswith("num_batches_tracked"):
            continue
        if name not in state or state[name].shape != own[name].shape:
            raise InputError(f"{config.pretrained} lacks {name} of that shape: it is no {config.backbone}")
        own[name] = state[name]
    net.load_state_dict(own)


def _download(name: str, backbone: Backbone) -> Mapping[str, Tensor]:
    try:
        weights = torchvision.models.get_model_weights(backbone)[name]
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False)
    except KeyError:
        raise InputError(
            f"model.pretrained is {name!r}: neither a file nor torchvision weights of {backbone}"
        ) from None
    except OSError as error:
        raise InputError(f"model.pretrained {name} cannot be downloaded ({error}): give a file instead") from None
    return state
