import torch

from models.heatmap_net import HeatmapNet
from models.lifting_net import LiftingNet
from models.reference_weights import from_reference, to_reference, unwrapped


def test_sections_become_networks_and_back():
    with torch.device("meta"):
        ours = {"heatmap_net": HeatmapNet("resnet18").state_dict(), "lifting_net": LiftingNet(8).state_dict()}
    theirs = to_reference(ours)
    assert list(theirs) == ["resnet_state_dict", "autoencoder_state_dict"]
    assert "layer4.1.conv2.weight" in theirs["resnet_state_dict"]
    assert "b2_deconv3.weight" in theirs["autoencoder_state_dict"]
    back = from_reference({**theirs, "optimizer_state_dict": {}, "scheduler": {}})
    assert {name: list(state) for name, state in back.items()} == {name: list(state) for name, state in ours.items()}


def test_a_checkpoint_may_hold_one_network():
    weight = torch.zeros(1)
    assert from_reference({"autoencoder_state_dict": {"fc1.weight": weight}}) == {"lifting_net": {"fc1.weight": weight}}
    assert to_reference({"heatmap_net": {"conv1.weight": weight}}) == {"resnet_state_dict": {"conv1.weight": weight}}
    assert from_reference({"optimizer_state_dict": {}}) == {}


def test_bare_state_dicts_are_known_by_their_parameters():
    weight = torch.zeros(1)
    heatmap_net = {"conv1.weight": weight, "final_layer.weight": weight}
    lifting_net = {"conv1.weight": weight, "b1_fc1.weight": weight}
    assert from_reference(heatmap_net) == {"heatmap_net": heatmap_net}
    assert from_reference({"state_dict": lifting_net, "epoch": 3}) == {"lifting_net": lifting_net}
    both = {f"module.heatmap_net.{name}": weight for name in heatmap_net}
    both |= {f"module.lifting_net.{name}": weight for name in lifting_net}
    assert from_reference(both) == {"heatmap_net": heatmap_net, "lifting_net": lifting_net}
    assert from_reference({"conv1.weight": weight}) == {}


def test_names_lose_the_prefixes_of_wrappers():
    names = {
        "module.conv1.weight": "conv1.weight",
        "_orig_mod.module.bn1.weight": "bn1.weight",
        "module._orig_mod.bn1.bias": "bn1.bias",
        "layer1._orig_mod.0.conv1.weight": "layer1.0.conv1.weight",
        "layer1.0.module.x": "layer1.0.module.x",
    }
    assert list(unwrapped(names)) == list(names.values())
