"""Operations and bytes of training, counted."""

import json

import pytest
import torch
from torch import nn

from benchmarks.work import Traffic, count, main
from engine.stages import STAGES, ModelConfig


def test_operations_are_those_of_the_convolutions():
    """Of ResNet-18 at 64 px, by hand: thrice the forward pass, less a gradient of the image."""
    work = count(STAGES["train2d"], "resnet18", 64, 4)
    macs = first = 64 * 3 * 49 * 32 * 32
    for width, side, before in ((64, 16, 64), (128, 8, 64), (256, 4, 128), (512, 2, 256)):
        macs += 9 * width * side**2 * (before + 3 * width)
        macs += width * before * side**2 if width != before else 0
    macs += 16 * 512 * 256 * 2**2 + 16 * 256 * 256 * 4**2 + 256 * 15 * 8**2  # transposed convolutions, the last layer
    assert work.operations == pytest.approx(2 * (3 * macs - first))
    built = STAGES["train2d"](ModelConfig(backbone="resnet18"), 64).build_model()
    assert work.parameters == sum(parameter.numel() for parameter in built.parameters())
    assert work.product_traffic < work.traffic


def test_operations_and_bytes_grow_as_they_should():
    small, large = (count(STAGES["train2d"], "resnet18", side, 64) for side in (64, 128))
    assert large.operations == pytest.approx(4 * small.operations)
    assert 3 < large.traffic / small.traffic < 4  # images four times as large, the same weights
    assert large.optimizer_traffic == small.optimizer_traffic
    assert count(STAGES["train3d"], "resnet18", 64, 2).backbone is None
    assert torch.get_default_dtype() == torch.float32


def test_bytes_of_a_few_operators():
    x = torch.zeros(10, 20)
    with Traffic() as traffic:
        y = x + 1  # 800 read, 800 written
        y.view(200)
        y.relu_()  # again
        z = y @ torch.zeros(20, 5)  # zeros: 400 written; 800 and 400 read, 200 written
    assert z.shape == (10, 5)
    assert traffic.total == 1600 + 1600 + 400 + 1400
    assert traffic.products == 1400
    with Traffic() as traffic:
        nn.BatchNorm1d(20)(x)
    assert traffic.total > 800 * 3  # read for the statistics, read again, written


def test_from_the_command_line(tmp_path, capsys):
    assert main(["--output", str(tmp_path), "--image-size", "64", "--backbones", "resnet18"]) == 0
    content = json.loads((tmp_path / "work.json").read_text())
    assert [work["stage"] for work in content["works"]] == ["train2d", "train3d", "finetune"]
    assert "Counted, not measured" in (tmp_path / "work.md").read_text()
    assert "finetune resnet18" in capsys.readouterr().out
