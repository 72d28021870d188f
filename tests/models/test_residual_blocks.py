import pytest
import torch
import torchvision
from torch import nn

from models.heatmap_net import HeatmapNet
from models.residual_blocks import _convolve_squares, _pad_squares, _squares, convolve_in_eights


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [True, False])
def test_a_cpu_computes_what_torchvision_does_to_the_bit(backbone, training):
    torch.manual_seed(3)
    resnet = getattr(torchvision.models, backbone)()
    torch.manual_seed(3)
    net = HeatmapNet(backbone)
    expected = nn.Sequential(*list(resnet.children())[:-2], *net.deconv_layers, net.final_layer).train(training)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    ours = net.train(training)(image)
    theirs = expected((image.float() / 127.5) - 1)
    assert torch.equal(ours, theirs)
    for result in (ours, theirs):
        (result**2).mean().backward()
    parameters = {name: p for name, p in resnet.named_parameters() if not name.startswith("fc.")}
    for name, parameter in parameters.items():
        assert torch.equal(net.get_parameter(name).grad, parameter.grad), name
    for name, buffer in resnet.named_buffers():
        assert torch.equal(net.get_buffer(name), buffer), name


@pytest.mark.parametrize(("height", "width"), [(32, 32), (18, 26), (2, 4)])
def test_the_stem_by_squares_is_the_same_convolution(height, width):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected, actual = convolution(x), _convolve_squares(_pad_squares(_squares(x)), convolution.weight)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected, atol=1e-13, rtol=0)
    dy = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * dy).sum(), convolution.weight)[0] for y in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-11, rtol=0)


def test_a_convolution_in_eights_is_the_same():
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 15, 1).double()
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    results = convolve_in_eights(convolution, x), convolution(x)
    torch.testing.assert_close(*results, atol=1e-13, rtol=0)
    dy = torch.randn_like(results[1])
    leaves = x, convolution.weight, convolution.bias
    torch.testing.assert_close(*(torch.autograd.grad(y, leaves, dy) for y in results), atol=1e-12, rtol=0)
