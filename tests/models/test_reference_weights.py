import torch

from models.heatmap_net import HeatmapNet
from models.lifting_net import LiftingNet
from models.reference_weights import from_reference, is_reference, to_reference


def test_sections_become_networks_and_back():
    with torch.device("meta"):
        ours = {"heatmap_net": HeatmapNet("resnet18").state_dict(), "lifting_net": LiftingNet(8).state_dict()}
    theirs = to_reference(ours)
    assert list(theirs) == ["resnet_state_dict", "autoencoder_state_dict"]
    assert "layer4.1.conv2.weight" in theirs["resnet_state_dict"]
    assert "b2_deconv3.weight" in theirs["autoencoder_state_dict"]
    assert is_reference(theirs)
    assert not is_reference({"model": ours})
    back = from_reference({**theirs, "optimizer_state_dict": {}, "scheduler": {}})
    assert {name: list(state) for name, state in back.items()} == {name: list(state) for name, state in ours.items()}


def test_a_checkpoint_may_hold_one_network():
    weight = torch.zeros(1)
    assert from_reference({"autoencoder_state_dict": {"fc1.weight": weight}}) == {"lifting_net": {"fc1.weight": weight}}
    assert to_reference({"heatmap_net": {"conv1.weight": weight}}) == {"resnet_state_dict": {"conv1.weight": weight}}
    assert is_reference({"resnet_state_dict": {}})


def test_names_lose_data_parallels_prefix():
    weight = torch.zeros(1)
    found = from_reference({"resnet_state_dict": {"module.conv1.weight": weight, "layer1.0.module.x": weight}})
    assert list(found["heatmap_net"]) == ["conv1.weight", "layer1.0.module.x"]
