"""Backbones of the timm package: images to features on a grid that spans the whole image."""

from __future__ import annotations

import copy
import difflib
import math
import textwrap
from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

PREFIX: Final = "timm/"
"""What names of these backbones begin with."""
_TARGET_REDUCTION: Final = 8
"""Pixels of an image per cell of its heatmaps, about: doubled grids come to the heatmaps' size."""


class BackboneError(ValueError):
    """A backbone that timm lacks, or that is of no use here; the message is one line."""


def is_timm(backbone: str) -> bool:
    """Return whether a name is one of timm's backbones, whether timm has it or not."""
    return backbone.startswith(PREFIX)


def pretrained_tags(backbone: str) -> list[str]:
    """Return the tags of the weights that timm can download for a backbone; none for one that it lacks."""
    import timm  # noqa: PLC0415 - optional

    return [name.partition(".")[2] for name in timm.list_pretrained(f"{_architecture(backbone)}.*")]


def _architecture(backbone: str) -> str:
    return backbone.removeprefix(PREFIX).partition(".")[0]


class TimmBackbone(nn.Module):
    """A feature extractor of timm. Images that have not the size that it needs are resized.

    Shapes: image (B, 3, H, W) uint8 -> (B, channels, G, G), where G doubled ``doublings`` times is the heatmaps' side.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, heatmap_size: int) -> None:
        """Build the extractor with new weights.

        Args:
            backbone: timm/NAME; a tag of NAME (timm/convnext_tiny.fb_in22k) says how images are normalized.
            heatmap_size: side of the heatmaps (cells), which span the image.

        Raises:
            BackboneError: timm lacks it, it is no feature extractor, or its features do not come out as it says.
        """
        super().__init__()
        self._name = backbone
        # what counts a network's operations builds it of tensors that hold nothing, and many of timm's read theirs
        with unset_fake_temporarily():
            side = _TARGET_REDUCTION * heatmap_size
            extractor = self._build(side)
            reduction: int = extractor.feature_info.reduction()[-1]  # type: ignore[union-attr, operator]
            self.doublings: Final = max(0, round(math.log2(reduction / _TARGET_REDUCTION)))
            """How many times the grid of the features must be doubled."""
            grid, rest = divmod(heatmap_size, 2**self.doublings)
            if rest:
                raise BackboneError(
                    f"{backbone} has a cell for {reduction} pixels, which makes no heatmaps of {heatmap_size} cells: "
                    f"take images of {side + 32} pixels, or another backbone"
                )
            self.side: Final = grid * reduction
            """Side of the images that the extractor is given (pixels)."""
            self.extractor = extractor if self.side == side else self._build(self.side)
            self.channels: Final[int] = extractor.feature_info.channels()[-1]  # type: ignore[union-attr, operator]
            self._ends_in_channels = "NHWC" in str(getattr(extractor, "output_fmt", "NCHW"))
            # in checkpoints: pretrained weights know images normalized in one way, which their tag alone says
            self.register_buffer("mean", _per_channel(extractor, "mean"))
            self.register_buffer("std", _per_channel(extractor, "std"))
            self._check((2, self.channels, grid, grid))

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the features, computed in a type from bytes that are rounded to it once."""
        x = image.float().div_(255).sub_(self.mean).div_(self.std)
        if x.shape[2:] != (self.side, self.side):
            x = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)
        features: Tensor = self.extractor(x.to(dtype))[-1]
        return features.permute(0, 3, 1, 2) if self._ends_in_channels else features

    def load_tag(self, tag: str) -> None:
        """Take the weights of a tag, which timm downloads. Raises what timm does if it cannot."""
        self._take(_create(f"{_architecture(self._name)}.{tag}", self.side, pretrained=True))

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take weights by the names that the whole model has in timm, its classifier's among them or not.

        Raises BackboneError if some are absent or do not fit.
        """
        # timm tells nobody what it did not find, and renames or resizes some: what is a number now was not in the file
        blank = self._with_weights({name: _without_numbers(value) for name, value in state.items()})
        absent = [
            name for name, value in blank.state_dict().items() if value.is_floating_point() and not value.isnan().all()
        ]
        if absent:
            raise BackboneError(f"lacks {absent[0]}{f' and {len(absent) - 1} more' * (len(absent) > 1)}")
        self._take(self._with_weights(state))

    def _with_weights(self, state: Mapping[str, Tensor]) -> nn.Module:
        try:
            return _create(
                self._name.removeprefix(PREFIX),
                self.side,
                pretrained=True,
                pretrained_cfg_overlay={"state_dict": dict(state)},
            )
        except Exception as error:  # each model has a way of its own to take weights
            raise BackboneError(f"cannot be loaded: {_reason(error)}") from error

    def _take(self, extractor: nn.Module) -> None:
        self.extractor.load_state_dict(extractor.state_dict())
        self.mean.copy_(_per_channel(extractor, "mean"))
        self.std.copy_(_per_channel(extractor, "std"))

    def _build(self, side: int) -> nn.Module:
        import timm  # noqa: PLC0415 - optional

        name, architecture = self._name.removeprefix(PREFIX), _architecture(self._name)
        if not timm.is_model(architecture):
            alike = difflib.get_close_matches(architecture, timm.list_models(), 3)
            raise BackboneError(
                f"{self._name}: timm {timm.__version__} has no such model"
                + (f"; it has {', '.join(alike)}" if alike else ": timm.list_models() names them")
            )
        try:
            return _create(name, side)
        except Exception as error:  # each model has conditions of its own
            raise self._unusable(_reason(error), side) from error

    def _check(self, expected: tuple[int, ...]) -> None:
        """Run a copy that holds no numbers, and set apart the weights that the features do not depend on."""
        probe = copy.deepcopy(self).to("meta").eval()  # a copy: some models keep what they have computed
        image = torch.zeros(expected[0], 3, self.side, self.side, dtype=torch.uint8, device="meta")
        try:
            features = probe(image, torch.get_default_dtype())
            features.backward(torch.empty_like(features))
        except Exception as error:
            raise self._unusable(_reason(error)) from error
        if features.shape != expected:
            found = tuple(features.shape[1:])
            raise self._unusable(f"its features are {found} large, not {expected[1:]} as it says")
        # processes that train together would wait for their gradients
        for name, weight in probe.named_parameters():
            if weight.grad is None:
                self.get_parameter(name).requires_grad_(False)

    def _unusable(self, reason: str, side: int | None = None) -> BackboneError:
        size = "x".join([str(side or self.side)] * 2)
        return BackboneError(f"{self._name} makes no features of {size} pixels ({reason}): take another backbone")


def _create(name: str, side: int, **options: Any) -> nn.Module:
    """Return the extractor of the last features of a model, for square images of that side if it must know it."""
    import timm  # noqa: PLC0415 - optional

    options |= {"features_only": True, "out_indices": (-1,)}
    try:
        model: nn.Module = timm.create_model(name, img_size=side, **options)
    except TypeError as error:  # convolutions take any
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, **options)
    return model


def _per_channel(extractor: nn.Module, key: str) -> Tensor:
    return torch.tensor(extractor.pretrained_cfg[key]).view(3, 1, 1)  # type: ignore[index]


def _without_numbers(value: Tensor) -> Tensor:
    return torch.full_like(value, math.nan) if value.is_floating_point() else value


def _reason(error: Exception) -> str:
    return textwrap.shorten(": ".join(filter(None, [type(error).__name__, str(error)])), 200)
