import pytest
import torch
import torch.nn.functional as F
import torchvision

from models.heatmap_net import BACKBONES, HeatmapNet, heatmap_size
from models.lifting_net import LiftingNet
from models.pose_net import PoseNet


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_reference_sizes():
    assert parameters(HeatmapNet("resnet50")) == 32_950_095
    assert parameters(LiftingNet(48)) == 80_034_323


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_parameters_have_torchvisions_names_and_shapes(backbone):
    expected = {
        name: tensor.shape
        for name, tensor in getattr(torchvision.models, backbone)().state_dict().items()
        if not name.startswith("fc.")
    }
    state = HeatmapNet(backbone).state_dict()
    assert {name: state[name].shape for name in expected} == expected
    rest = {name.split(".")[0] for name in state.keys() - expected.keys()}
    assert rest == {"deconv_layers", "final_layer"}


def test_heatmap_net_is_the_backbone_the_head_and_normalized_bytes():
    torch.manual_seed(0)
    net = HeatmapNet("resnet18").eval()
    backbone = torchvision.models.resnet18()
    backbone.load_state_dict(
        {**net.state_dict(), **{k: v for k, v in backbone.state_dict().items() if k[:3] == "fc."}}, False
    )
    backbone.eval()
    image = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    x = (image.float() / 255 - 0.5) / 0.5
    x = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(x))))
    x = backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(x))))
    state = net.state_dict()
    for conv, norm in ((0, 1), (3, 4)):
        x = F.conv_transpose2d(x, state[f"deconv_layers.{conv}.weight"], stride=2, padding=1)
        mean, var, weight, bias = (
            state[f"deconv_layers.{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.relu(F.batch_norm(x, mean, var, weight, bias))
    x = F.conv2d(x, state["final_layer.weight"], state["final_layer.bias"])
    with torch.no_grad():
        torch.testing.assert_close(net(image), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bytes_are_normalized_in_the_type_that_is_computed_in(dtype):
    net, inputs = HeatmapNet("resnet18"), []
    net.conv1.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    grays = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16).repeat(1, 1, 2, 2)
    image = grays.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        net(image)
    (x,) = inputs
    assert x.is_contiguous(memory_format=torch.channels_last)
    # as if rounded from float32; in autocast a convolution would have done that
    assert x.dtype == dtype
    assert torch.equal(x, (image.float() / 127.5 - 1).to(dtype))


def test_shapes_are_known_without_computing():
    image = torch.zeros(2, 3, 96, 96, dtype=torch.uint8, device="meta")  # which knows no autocast
    assert HeatmapNet("resnet18").to("meta")(image).shape == (2, 15, 12, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_only_bytes_are_images(dtype):
    image = torch.zeros(1, 3, 64, 64, dtype=dtype)
    for net in (HeatmapNet("resnet18"), PoseNet("resnet18", 64)):
        with pytest.raises(TypeError, match=f"images are {dtype}: give uint8"):
            net(image)


def test_lifting_net_is_the_papers_auto_encoder():
    torch.manual_seed(0)
    net = LiftingNet(16)
    s = net.state_dict()
    heatmap = torch.rand(3, 15, 16, 16)
    x = heatmap
    for i in (1, 2, 3):
        x = F.leaky_relu(F.conv2d(x, s[f"conv{i}.weight"], s[f"conv{i}.bias"], stride=2, padding=1), 0.2)
    x = x.reshape(3, -1)
    x = F.leaky_relu(F.linear(x, s["fc1.weight"], s["fc1.bias"]), 0.2)
    x = F.leaky_relu(F.linear(x, s["fc2.weight"], s["fc2.bias"]), 0.2)
    latent = F.linear(x, s["fc3.weight"], s["fc3.bias"])
    pose = latent
    for i in (1, 2, 3):
        pose = F.linear(pose, s[f"b1_fc{i}.weight"], s[f"b1_fc{i}.bias"])
    x = latent
    for i in (1, 2, 3):
        x = F.leaky_relu(F.linear(x, s[f"b2_fc{i}.weight"], s[f"b2_fc{i}.bias"]), 0.2)
    x = x.reshape(3, 512, 2, 2)
    for i in (1, 2, 3):
        x = F.conv_transpose2d(x, s[f"b2_deconv{i}.weight"], s[f"b2_deconv{i}.bias"], stride=2, padding=1)
        x = F.relu(x) if i < 3 else x
    with torch.no_grad():
        joints_3d, reconstruction = net(heatmap)
    torch.testing.assert_close(joints_3d, pose.reshape(3, 16, 3))
    torch.testing.assert_close(reconstruction, x)


@pytest.mark.parametrize(("image_size", "size"), [(368, 48), (128, 16), (96, 12), (256, 32)])
def test_heatmap_size_is_what_the_network_makes(image_size, size):
    assert heatmap_size(image_size) == size
    with torch.no_grad():
        assert HeatmapNet("resnet18")(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)).shape[2:] == (
            size,
            size,
        )


def test_pose_net_lifts_its_own_heatmaps():
    net = PoseNet("resnet18", 128).eval()
    image = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        outputs = net(image)
        heatmap = net.heatmap_net(image)
        joints_3d, reconstruction = net.lifting_net(heatmap)
    torch.testing.assert_close(outputs, (heatmap, joints_3d, reconstruction))


def test_poses_keep_full_precision_under_bf16():
    net = LiftingNet(16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        joints_3d, _ = net(torch.rand(2, 15, 16, 16))
    assert joints_3d.dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        LiftingNet(44)
    with pytest.raises(ValueError, match="resnet20"):
        HeatmapNet("resnet20")
