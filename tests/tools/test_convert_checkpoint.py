"""Checkpoints in the reference code's form and back."""

from pathlib import Path

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.loaded_model import describe_reference, read_model
from loaders import InputError
from models.heatmap_net import BACKBONES, HeatmapNet
from models.lifting_net import LiftingNet
from models.reference_weights import to_reference
from tests.checkpoint_factory import make_checkpoint
from tools.convert_checkpoint import main

SOME = Path("some.pth")


def run(source, target):
    return main(["--input", str(source), "--output", str(target)])


def heatmap_net(backbone):
    with torch.device("meta"):
        return HeatmapNet(backbone).state_dict()


def lifting_net(size):
    with torch.device("meta"):
        return LiftingNet(size).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train2d", "train3d", "finetune"])
def test_weights_come_back(tmp_path, capsys, stage):
    image_size = 64 if stage != "train2d" else 368  # a heatmap network alone does not tell
    ours = make_checkpoint(tmp_path / "ours.pt", stage, image_size=image_size)
    assert run(ours, tmp_path / "theirs.pth") == 0
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)
    weights = checkpoint.load(ours).weights
    names = {"heatmap_net": "resnet_state_dict", "lifting_net": "autoencoder_state_dict"}
    assert set(theirs) == {names[network] for network in weights}
    assert run(tmp_path / "theirs.pth", tmp_path / "new" / "back.pt") == 0
    assert f"a {stage} checkpoint" in capsys.readouterr().out
    back = checkpoint.load(tmp_path / "new" / "back.pt")
    assert (back.stage, back.image_size) == (stage, image_size)
    for network, state in weights.items():
        assert list(state) == list(back.weights[network])
        assert all(torch.equal(state[name], back.weights[network][name]) for name in state)
    trained = read_model(tmp_path / "new" / "back.pt", torch.device("cpu"))
    assert trained.backbone == (None if stage == "train3d" else "resnet18")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("stage", "model"),
    [
        ("train2d", {"network": "own.py:Net"}),
        ("finetune", {"backbone": "timm/convnext_atto"}),
        ("own.py:Stage", {"backbone": "resnet18"}),
    ],
)
def test_a_network_that_the_reference_code_lacks_is_refused(tmp_path, capsys, stage, model):
    ours = checkpoint.Checkpoint(stage=stage, image_size=64, config={"model": model}, weights={"heatmap_net": {}})
    checkpoint.save(tmp_path / "ours.pt", ours)
    assert run(tmp_path / "ours.pt", tmp_path / "theirs.pth") == 2
    assert "holds a network that the reference code does not have" in capsys.readouterr().err
    assert not (tmp_path / "theirs.pth").exists()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbone_is_read_off_the_weights(backbone):
    described = describe_reference({"heatmap_net": heatmap_net(backbone)}, SOME)
    assert described.config["model"]["backbone"] == backbone
    assert (described.stage, described.image_size) == ("train2d", 368)


@pytest.mark.parametrize(("heatmaps", "image_size"), [(48, 368), (16, 128), (8, 64)])
def test_the_image_size_is_read_off_the_weights(heatmaps, image_size):
    described = describe_reference({"lifting_net": lifting_net(heatmaps)}, SOME)
    assert (described.stage, described.image_size) == ("train3d", image_size)
    # the reference recipe's targets lie on whole cells
    assert described.config["model"]["quantized_targets"] is True


def test_what_is_not_the_references_is_refused():
    odd = {name: tensor for name, tensor in heatmap_net("resnet50").items() if not name.startswith("layer3.5.")}
    with pytest.raises(InputError, match="none of the backbones"):
        describe_reference({"heatmap_net": odd}, SOME)
    with pytest.raises(InputError, match="no conv3 and fc1"):
        describe_reference({"lifting_net": {}}, SOME)


@pytest.mark.slow
def test_a_reference_checkpoint_from_data_parallel_is_loaded(tmp_path):
    ours = checkpoint.load(make_checkpoint(tmp_path / "ours.pt")).weights
    theirs = {section: {f"module.{k}": v for k, v in state.items()} for section, state in to_reference(ours).items()}
    torch.save(theirs | {"optimizer_state_dict": {}, "scheduler": {}}, tmp_path / "theirs.pth")
    trained = read_model(tmp_path / "theirs.pth", torch.device("cpu"))
    assert trained.stage.name == "finetune"
    assert torch.equal(trained.model.state_dict()["heatmap_net.conv1.weight"], ours["heatmap_net"]["conv1.weight"])
    del theirs["autoencoder_state_dict"]["module.b1_fc3.bias"]
    torch.save(theirs, tmp_path / "lacking.pth")
    with pytest.raises(InputError, match=r"b1_fc3\.bias"):
        read_model(tmp_path / "lacking.pth", torch.device("cpu"))


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys):
    ours = make_checkpoint(tmp_path / "ours.pt", "train3d")
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    for source, target, expected in (
        (tmp_path / "absent.pt", tmp_path / "new.pt", "does not exist"),
        (tmp_path / "text.pt", tmp_path / "new.pt", "cannot be read"),
        (tmp_path / "foreign.pt", tmp_path / "new.pt", "neither"),
        (ours, ours, "exists: remove it"),
    ):
        assert run(source, target) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert not (tmp_path / "new.pt").exists()
