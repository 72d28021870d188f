"""The kernels run on a GPU, or where none is in Triton's interpreter, which a process of its own must start with."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import nn

from models import fused_norm
from models.fused_norm import norm_add_relu, norm_relu, norm_relu_pool
from models.heatmap_net import HeatmapNet
from models.residual_blocks import BasicBlock, Bottleneck, _normalized, _pad_squares, _squares

IN_INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not IN_INTERPRETER else "cpu"
need_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
need_kernels = pytest.mark.skipif(DEVICE == "cpu" and not IN_INTERPRETER, reason="no GPU, and not the interpreter")


@pytest.mark.slow
def test_kernels_in_the_interpreter():
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.9") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of an older Triton takes an array for a number, which NumPy refuses since 2.4")
    command = [
        sys.executable,
        "-m",
        "pytest",
        __file__,
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "gpu",
        "-k",
        "not network",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.fixture
def fused(monkeypatch):
    """Take the kernels on a CPU too: they are what is tested."""
    if DEVICE == "cpu":
        monkeypatch.setattr(fused_norm, "_is_fused", lambda norm, *_: type(norm) is nn.BatchNorm2d)


def activations(shape, dtype, scale=2.0, mean=0.5):
    x = (torch.randn(shape, device=DEVICE) * scale + mean).to(dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def make_norm(channels):
    norm = nn.BatchNorm2d(channels, momentum=0.3, device=DEVICE)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    return norm


def exact(norm, x, residual, relu):
    """The same in float64 by torch, with leaves of its own."""
    norm64 = nn.BatchNorm2d(norm.num_features, momentum=norm.momentum, device=DEVICE).double()
    norm64.load_state_dict(norm.state_dict())
    leaves = [t.detach().double().requires_grad_() for t in (x, residual) if t is not None]
    y = norm64(leaves[0])
    y = y + leaves[1] if residual is not None else y
    return norm64, leaves, F.relu(y) if relu else y


def close(actual, expected, tolerance):
    """Compare with the size of the largest value: rounding errors of sums do not shrink with the sum."""
    assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-3)


TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}


@pytest.mark.gpu
@need_kernels
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("shape", "residual", "relu"),
    [
        ((1, 64, 45, 67), False, True),  # several tiles for each program
        ((3, 128, 29, 31), True, True),
        ((2, 256, 5, 7), False, False),
        ((2, 192, 8, 8), True, True),
    ],
)
def test_fused_steps_are_torchs(fused, dtype, shape, residual, relu):
    torch.manual_seed(0)
    x, norm = activations(shape, dtype), make_norm(shape[1])
    added = activations(shape, dtype) if residual else None
    # ReLU of exactly zero has no gradient, and near zero the rounding decides: keep away from it
    norm64, leaves, expected = exact(norm, x, added, relu)
    assert fused_norm._is_fused(norm, x, added)
    y = norm_add_relu(norm, x, added) if residual else norm_relu(norm, x, relu=relu)
    dy = torch.randn_like(y) * ((expected.abs() > 0.05) | (not relu))
    y.backward(dy)
    expected.backward(dy.double())
    tolerance = TOLERANCES[dtype]
    assert y.dtype == x.grad.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    close(y, expected, tolerance)
    for leaf, leaf64 in zip([x, added], leaves, strict=False):
        close(leaf.grad, leaf64.grad, tolerance)
    if residual:
        assert torch.equal(added.grad, torch.where(y > 0, dy, 0))
    for name in ("weight", "bias"):
        close(getattr(norm, name).grad, getattr(norm64, name).grad, tolerance)
    for name in ("running_mean", "running_var"):
        close(getattr(norm, name), getattr(norm64, name), 1e-5)
    assert norm.num_batches_tracked == 1


@pytest.mark.gpu
@need_kernels
def test_a_large_mean_does_not_cancel(fused):
    torch.manual_seed(0)
    x, norm = activations((4, 64, 16, 16), torch.float32, scale=1.0, mean=1000.0), make_norm(64)
    norm64, (x64,), expected = exact(norm, x, None, relu=False)
    y = norm_relu(norm, x, relu=False)
    dy = torch.randn_like(y)
    y.backward(dy)
    expected.backward(dy.double())
    close(y, expected, 1e-4)
    close(x.grad, x64.grad, 1e-4)
    close(norm.running_var, norm64.running_var, 1e-4)


@pytest.mark.gpu
@need_kernels
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(1, 64, 45, 67), (2, 256, 5, 7)])
def test_a_residual_has_its_norm(fused, dtype, shape):
    torch.manual_seed(0)
    branches = [(make_norm(shape[1]), activations(shape, dtype, scale, 0.5)) for scale in (2.0, 0.3)]
    norms64, leaves, results = zip(*[exact(norm, x, None, relu=False) for norm, x in branches], strict=True)
    (norm, x), (residual_norm, residual) = branches
    y = norm_add_relu(norm, x, residual, residual_norm)
    expected = F.relu(results[0] + results[1])
    dy = torch.randn_like(y) * (expected > 0.05)
    y.backward(dy)
    expected.backward(dy.double())
    assert y.is_contiguous(memory_format=torch.channels_last)
    close(y, expected, TOLERANCES[dtype])
    for (norm, x), norm64, (x64,) in zip(branches, norms64, leaves, strict=True):
        close(x.grad, x64.grad, TOLERANCES[dtype])
        for name in ("weight", "bias"):
            close(getattr(norm, name).grad, getattr(norm64, name).grad, TOLERANCES[dtype])
        for name in ("running_mean", "running_var"):
            close(getattr(norm, name), getattr(norm64, name), 1e-5)
        assert norm.num_batches_tracked == 1


@pytest.mark.gpu
@need_kernels
def test_gradients_of_twins_are_added(fused):
    torch.manual_seed(0)
    shape = (1, 64, 12, 12)
    gradients = torch.randn(2, *shape, device=DEVICE)
    found = []
    for used in ((0,), (1,), (0, 1)):
        x, added, norm = activations(shape, torch.float32), activations(shape, torch.float32), make_norm(64)
        x.data.copy_(torch.linspace(-2, 2, x.numel()).view(shape))
        added.data.fill_(0.5)
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
        twins = norm_add_relu(norm, x, added, twins=True)
        assert torch.equal(*twins)
        sum((twins[i] * gradients[i]).sum() for i in used).backward()
        found.append(torch.cat([t.grad.flatten() for t in (x, added, norm.weight, norm.bias)]))
    torch.testing.assert_close(found[0] + found[1], found[2], atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@need_kernels
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (1, 6)])
def test_fused_pooling_is_torchs(fused, dtype, size):
    torch.manual_seed(0)
    x, norm = activations((2, 128, *size), dtype), make_norm(128)
    # distinct values: among equal ones, torch and we may take different places
    grid = torch.randperm(x.numel() // 128).view(2, 1, *size) / x.numel() * 512 - 2
    x.data.copy_(grid + torch.rand(128, 1, 1) / 4096)
    pool = nn.MaxPool2d(3, 2, 1)
    norm64, (x64,), normalized = exact(norm, x, None, relu=True)
    expected = pool(normalized)
    y = norm_relu_pool(norm, pool, x)
    dy = torch.randn_like(y) * ((expected > 0.05) | (expected == 0))
    y.backward(dy)
    expected.backward(dy.double())
    tolerance = TOLERANCES[dtype]
    assert y.is_contiguous(memory_format=torch.channels_last)
    close(y, expected, tolerance)
    close(x.grad, x64.grad, tolerance)
    for name in ("weight", "bias"):
        close(getattr(norm, name).grad, getattr(norm64, name).grad, tolerance)
    assert norm.num_batches_tracked == 1


@pytest.mark.gpu
@need_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_stem_gets_the_same_squares_to_the_bit(dtype, memory_format):
    from models.kernels.stem import normalize_squares

    torch.manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 18, 26), dtype=torch.uint8)
    image.view(-1)[:256] = torch.arange(256)
    image = image.to(DEVICE).contiguous(memory_format=memory_format)
    squares = normalize_squares(image, dtype)
    assert squares.is_contiguous(memory_format=torch.channels_last)
    expected = _pad_squares(_squares(_normalized(image, dtype)))
    # the interpreter cuts bfloat16 off instead of rounding it
    tolerance = 2**-8 if IN_INTERPRETER and dtype == torch.bfloat16 else 0
    torch.testing.assert_close(squares, expected, atol=tolerance, rtol=0)


def gradients_of(model, x, state):
    """Return result, gradients, and what the step left of the state."""
    model.load_state_dict(state)
    model.zero_grad()
    y = model(x)
    y = y[0] if isinstance(y, tuple) else y
    ((y - 0.1) ** 2).mean().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    return y.detach(), gradients, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def compare_with_torch(monkeypatch, model, x, tolerance):
    model = model.to(DEVICE, memory_format=torch.channels_last).train()
    x = x.to(DEVICE).contiguous(memory_format=torch.channels_last)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    y, gradients, after = gradients_of(model, x, state)
    monkeypatch.setattr(fused_norm, "_is_fused", lambda *_: False)
    y_torch, gradients_torch, after_torch = gradients_of(model, x, state)
    torch.testing.assert_close(y, y_torch, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(after, after_torch, atol=tolerance, rtol=tolerance)
    assert (gradients - gradients_torch).norm() <= tolerance * gradients_torch.norm()


@pytest.mark.gpu
@need_kernels
@pytest.mark.parametrize(("block", "planes"), [(BasicBlock, 64), (Bottleneck, 64)])
def test_fused_blocks_learn_what_torchs_do(fused, monkeypatch, block, planes):
    torch.manual_seed(0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    width = planes * block.expansion
    downsample = nn.Sequential(nn.Conv2d(64, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
    blocks = nn.Sequential(block(64, planes, 2, downsample), block(width, planes), block(width, planes))
    compare_with_torch(monkeypatch, blocks, torch.randn(2, 64, 14, 14), 1e-4)


@pytest.mark.gpu
@need_gpu
def test_a_fused_network_learns_what_torchs_does(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = HeatmapNet("resnet50")
    compare_with_torch(monkeypatch, net, torch.randint(0, 256, (8, 3, 128, 128), dtype=torch.uint8), 0.02)
