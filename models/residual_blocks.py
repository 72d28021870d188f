"""torchvision's residual blocks and the stem of its ResNets, computed in a way that suits a GPU."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.resnet import ResNet

from models.fused_norm import Twins, norm_add_relu, norm_relu, runs_kernels

_STEM_CHANNELS: Final = 16
"""Tensor cores take channels in eights at least."""


class BasicBlock(TorchvisionBasicBlock):  # type: ignore[misc]
    """Torchvision's block of two convolutions; in training on a GPU a block gives twins to the next one."""

    twins = True

    def forward(self, x: Tensor | Twins) -> Tensor | Twins:
        """Return the block's result; the input may be twins."""
        x, identity = x if isinstance(x, tuple) else (x, x)
        x = norm_relu(self.bn1, self.conv1(x))
        return norm_add_relu(self.bn2, self.conv2(x), *_shortcut(self.downsample, identity), twins=self.twins)


class Bottleneck(TorchvisionBottleneck):  # type: ignore[misc]
    """Torchvision's block of three convolutions; in training on a GPU a block gives twins to the next one."""

    twins = True

    def forward(self, x: Tensor | Twins) -> Tensor | Twins:
        """Return the block's result; the input may be twins."""
        x, identity = x if isinstance(x, tuple) else (x, x)
        x = norm_relu(self.bn1, self.conv1(x))
        x = norm_relu(self.bn2, self.conv2(x))
        return norm_add_relu(self.bn3, self.conv3(x), *_shortcut(self.downsample, identity), twins=self.twins)


def _shortcut(downsample: nn.Sequential | None, x: Tensor) -> tuple[Tensor, nn.Module | None]:
    """Return what is added to a block's result, and the norm that it is yet to go through."""
    if downsample is None:
        return x, None
    convolution, norm = downsample
    return convolution(x), norm


def build_resnet(backbone: str) -> nn.Module:
    """Return torchvision's ResNet of that name, with the same random weights, made of these blocks.

    Its layer4 returns a tensor, as the other layers do on a CPU.
    """
    block, layers = {
        "resnet18": (BasicBlock, [2, 2, 2, 2]),
        "resnet34": (BasicBlock, [3, 4, 6, 3]),
        "resnet50": (Bottleneck, [3, 4, 6, 3]),
        "resnet101": (Bottleneck, [3, 4, 23, 3]),
        "resnet152": (Bottleneck, [3, 8, 36, 3]),
    }[backbone]
    resnet: nn.Module = ResNet(block, layers)
    resnet.layer4[-1].twins = False  # type: ignore[index, union-attr]
    return resnet


def convolve_stem(convolution: nn.Conv2d, image: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalize bytes, and convolve them 7x7 in steps of 2, padded by 3; on a GPU in the form that tensor cores take.

    Shapes: (B, 3, H, W) -> (B, 64, H / 2, W / 2).
    """
    if not image.is_cuda or image.shape[2] % 2 or image.shape[3] % 2:
        y: Tensor = convolution(_normalized(image, dtype))
        return y
    halves = dtype in (torch.bfloat16, torch.float16)
    if not (convolution.training and halves and image.shape[1] == 3 and runs_kernels(image)):
        return _convolve_squares(_pad_squares(_squares(_normalized(image, dtype))), convolution.weight)
    from models.kernels.stem import normalize_squares  # noqa: PLC0415 - Triton is not everywhere

    return _convolve_squares(normalize_squares(image, dtype), convolution.weight)


def convolve_in_eights(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return a 1x1 convolution, for which a GPU computes channels in eights: those too many are cut off."""
    more = -convolution.out_channels % 8
    weight = F.pad(convolution.weight, (0, 0, 0, 0, 0, 0, 0, more))
    bias = F.pad(convolution.bias, (0, more))  # type: ignore[arg-type]
    return F.conv2d(x, weight, bias)[:, : convolution.out_channels]


def _normalized(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Return bytes as values of -1 to 1 in the type that the network computes in, rounded to it once."""
    x = image.to(dtype)
    if dtype == torch.float32:  # to the bit what a loader makes of them
        return x.div_(127.5).sub_(1)
    # eight bits hold k - 127.5 exactly, but not k / 127.5, whose rounding would be half a gray level
    return x.sub_(127.5).div_(127.5)


def _convolve_squares(squares: Tensor, weight: Tensor) -> Tensor:
    """Convolve padded squares of 2x2 pixels, of which each is one with four times the channels, in steps of one.

    A row of zeros before the kernel's first row and column makes it 4x4 squares large.
    """
    weight = _squares(F.pad(weight, (1, 0, 1, 0)))
    return F.conv2d(squares, F.pad(weight, (0, _STEM_CHANNELS - weight.shape[3])).permute(0, 3, 1, 2))


def _pad_squares(x: Tensor) -> Tensor:
    return F.pad(x, (0, _STEM_CHANNELS - x.shape[3], 2, 1, 2, 1)).permute(0, 3, 1, 2)


def _squares(x: Tensor) -> Tensor:
    """Return squares (B, H / 2, W / 2, 4 C) of pixels (B, C, H, W)."""
    x = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return x.transpose(2, 3).flatten(3)
