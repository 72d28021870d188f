"""Image to heatmaps: a backbone, and transposed convolutions that double the grid of its features."""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from models.fused_norm import norm_relu, norm_relu_pool
from models.residual_blocks import build_resnet, convolve_in_eights, convolve_stem
from models.timm_backbone import PREFIX, TimmBackbone, is_timm

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
BACKBONES: Final[tuple[Backbone, ...]] = get_args(Backbone)

_DECONV_CHANNELS: Final = 256
_BACKBONE_STRIDE: Final = 32
_UPSAMPLING: Final = 4


def heatmap_size(image_size: int) -> int:
    """Return the side of the heatmaps (cells) for a square image (pixels): 48 for 368, 16 for 128."""
    return -(-image_size // _BACKBONE_STRIDE) * _UPSAMPLING


class HeatmapNet(nn.Module):
    """Heatmaps of joints, 15 of xR-EgoPose, from an image.

    Shapes: image (B, 3, H, W) uint8 -> (B, K, H', W') with H' = heatmap_size(H). Parameter names are torchvision's
    for the backbone, then ``deconv_layers.*`` and ``final_layer.*`` as in the reference code; with ResNet-50 there are
    32,950,095 parameters. One of timm's is ``backbone.*``, and there H' is heatmap_size(image_size), whatever H.
    """

    backbone: TimmBackbone | None
    """One of timm's; None for a ResNet, whose layers are the network's own."""
    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    maxpool: nn.MaxPool2d
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, backbone: str = "resnet50", heatmaps: int = 15, image_size: int = 368) -> None:
        """Build the network with new weights.

        Args:
            backbone: one of `BACKBONES`, or timm/NAME.
            heatmaps: K.
            image_size: side of the images (pixels); a ResNet takes any.

        Raises:
            ValueError: there is no such backbone, or timm's is of no use here.
        """
        super().__init__()
        self.backbone = None
        if is_timm(backbone):
            self.backbone = TimmBackbone(backbone, heatmap_size(image_size))
            channels, doublings = self.backbone.channels, self.backbone.doublings
        elif backbone in BACKBONES:
            channels, doublings = self._add_resnet(backbone), 2
        else:
            raise ValueError(f"backbone {backbone!r} is none of {', '.join(BACKBONES)} and no {PREFIX}NAME")
        layers: list[nn.Module] = []
        for _ in range(doublings):
            layers += _upsample(channels)
            channels = _DECONV_CHANNELS
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, heatmaps, kernel_size=1)
        # Xiao, Wu, Wei, "Simple Baselines for Human Pose Estimation", ECCV 2018
        for module in [*self.deconv_layers, self.final_layer]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]

    def _add_resnet(self, backbone: str) -> int:
        """Add the layers of a ResNet that make features; return their channels."""
        resnet = build_resnet(backbone)
        for name, module in resnet.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)
        channels: int = resnet.fc.in_features  # type: ignore[assignment, union-attr]
        return channels

    def forward(self, image: Tensor) -> Tensor:
        """Return the heatmaps. Raises TypeError for images that are not uint8.

        The first step normalizes, for a ResNet 0..255 to -1..1: copying bytes to the device takes a quarter of the time
        of floats.
        """
        if image.dtype != torch.uint8:
            raise TypeError(
                f"images are {image.dtype}: give uint8, 0 to 255, which the network normalizes itself; normalized "
                "floats would be normalized twice"
            )
        device, dtype = image.device.type, self.final_layer.weight.dtype
        if device != "meta" and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        if self.backbone is not None:
            x = self.backbone(image, dtype)
        else:
            x = norm_relu_pool(self.bn1, self.maxpool, convolve_stem(self.conv1, image, dtype))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        for i in range(0, len(self.deconv_layers), 3):
            x = norm_relu(self.deconv_layers[i + 1], self.deconv_layers[i](x))
        heatmaps: Tensor = convolve_in_eights(self.final_layer, x) if x.is_cuda else self.final_layer(x)
        return heatmaps


def _upsample(channels: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(channels, _DECONV_CHANNELS, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(_DECONV_CHANNELS),
        nn.ReLU(inplace=True),
    ]
