"""Operations of a step against a count by hand, and the share of a GPU's that they are."""

import dataclasses

import pytest
import torch
from torch import nn

from engine.precision import Precision
from engine.profiling.flops import Utilization, fake_step, flop_per_image, peak_tflops
from engine.stages import STAGES, ModelConfig
from models.lifting_net import LiftingNet

GPU = torch.device("cuda")


def test_the_lifting_network_by_hand():
    """Each product is done three times: forward, for the gradient of its input, and for that of its weights."""
    net = LiftingNet(16)
    linear = sum(layer.weight.numel() for layer in net.modules() if isinstance(layer, nn.Linear))
    # kernels of 4x4 with stride 2: 15 maps of 16x16 cells become 64 of 8x8, 128 of 4x4, 512 of 2x2, and back
    first, inner = 15 * 64 * 8 * 8 * 16, (64 * 128 * 4 * 4 + 128 * 512 * 2 * 2) * 16
    stage = STAGES["train3d"](ModelConfig(), 128)
    assert stage.heatmap_size == 16
    # nothing wants the gradient of the heatmaps that go in
    assert flop_per_image(stage) == 2 * (3 * (linear + 2 * inner + first) + 2 * first)


def test_a_resnet_of_368_pixels_and_no_weights_are_loaded_nor_random_numbers_drawn():
    """78 GFLOP, as benchmarks/results/work.md has it."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stage = STAGES["train2d"](ModelConfig(pretrained="/no/such/file"), 368)
    assert flop_per_image(stage) / 1e9 == pytest.approx(77.5, abs=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    model = fake_step(stage, 2, [], torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_mfu_is_operations_done_over_operations_possible():
    two_gpus = Utilization(flop_per_image=80e9, peak=2 * 1000e12)
    assert two_gpus.figures(10_000) == {"mfu": pytest.approx(0.4)}
    assert dataclasses.replace(two_gpus, peak=None).figures(10_000) == {}


@pytest.mark.parametrize(
    ("name", "precision", "matmul_precision", "peak"),
    [
        ("NVIDIA H200", "bf16", "high", 989),
        ("NVIDIA A100-SXM4-80GB", "fp16", "highest", 312),
        ("NVIDIA A100-SXM4-80GB", "fp32", "high", 156),
        ("NVIDIA A100-SXM4-80GB", "fp32", "highest", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "bf16", "high", None),
    ],
)
def test_peaks_are_those_of_whole_gpus_in_the_precision_of_the_run(name, precision, matmul_precision, peak):
    found, note = peak_tflops(name, Precision(precision, GPU), matmul_precision)
    assert found == peak
    assert ("--peak-tflops" in note) == (peak is None)
