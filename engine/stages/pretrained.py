"""Pretrained backbones of heatmap networks: out of a file, or out of the internet by name."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor

from engine.checkpoint import format as checkpoint
from engine.stages.base import ModelConfig
from loaders.errors import InputError
from models.heatmap_net import HeatmapNet
from models.timm_backbone import BackboneError, TimmBackbone, is_timm, pretrained_tags


@contextlib.contextmanager
def backbone_faults() -> Iterator[None]:
    """Make a line for the user of what is wrong with a backbone of timm."""
    try:
        yield
    except BackboneError as error:
        raise InputError(f"model.backbone {error}") from error


def load_pretrained(net: HeatmapNet, config: ModelConfig) -> None:
    """Give a heatmap network the pretrained backbone that the configuration asks for, if any."""
    if config.pretrained is None:
        return
    path = Path(config.pretrained)
    if net.backbone is not None:
        if path.exists():
            _load_timm_file(net.backbone, path, config.backbone)
        else:
            _load_timm_tag(net.backbone, config.pretrained, config.backbone)
        return
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


def to_download(config: ModelConfig) -> bool:
    """Return whether the pretrained backbone would have to be downloaded; False if there is no such backbone.

    What timm has downloaded before it alone knows, so that counts as well.
    """
    if config.pretrained is None or Path(config.pretrained).exists():
        return False
    if is_timm(config.backbone):
        return config.pretrained in pretrained_tags(config.backbone)
    known = torchvision.models.get_model_weights(config.backbone).__members__
    if config.pretrained not in known:
        return False
    file = Path(urlparse(known[config.pretrained].url).path).name
    return not Path(torch.hub.get_dir(), "checkpoints", file).exists()


def _download(name: str, backbone: str) -> Mapping[str, Tensor]:
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


def _load_timm_file(net: TimmBackbone, path: Path, backbone: str) -> None:
    import timm.models  # noqa: PLC0415 - optional

    try:
        found = timm.models.load_state_dict(str(path))
    except Exception as error:  # of the format that the ending names, and of torch
        raise InputError(f"{path} cannot be read ({_shortened(error)}): give weights as timm keeps them") from error
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if unusable := [name for name, value in state.items() if not value.isfinite().all()]:
        raise InputError(f"{path}: {unusable[0]} is non-finite: give another file")
    if not state:
        raise InputError(f"{path} holds no weights: give those of {backbone}, by timm's names")
    try:
        net.load_weights(state)
    except BackboneError as error:
        raise InputError(f"{path} {error}: it is no {backbone}") from error


def _load_timm_tag(net: TimmBackbone, tag: str, backbone: str) -> None:
    if tag not in (known := pretrained_tags(backbone)):
        names = f"timm's are {', '.join(known)}" if known else "timm has none"
        raise InputError(f"model.pretrained is {tag!r}: neither a file nor weights of {backbone}; {names}")
    try:
        net.load_tag(tag)
    except Exception as error:  # of whatever client of HTTP it comes through
        raise InputError(
            f"model.pretrained {tag} cannot be downloaded ({_shortened(error)}): give a file instead"
        ) from error


def _shortened(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 160)
