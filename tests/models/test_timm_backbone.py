import pytest
import torch

from models.heatmap_net import HeatmapNet, heatmap_size
from models.pose_net import PoseNet
from models.timm_backbone import BackboneError, TimmBackbone, pretrained_tags

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.slow

NHWC = "timm/test_mambaout"
CONVOLUTIONS = "timm/test_convnext"
ATTENTION = "timm/test_vit"
"""The smallest of their kind."""


def images(size, count=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def given(net, image):
    """Return what the extractor is given."""
    inputs = []
    handle = net.backbone.extractor.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.no_grad():
        net(image)
    handle.remove()
    return inputs[0]


@pytest.mark.parametrize("size", [64, 96, 100, 368])
@pytest.mark.parametrize("backbone", ["timm/convnext_atto", NHWC, ATTENTION, "timm/mobilenetv3_small_050"])
def test_heatmaps_are_as_large_as_those_of_a_resnet(backbone, size):
    net = HeatmapNet(backbone, image_size=size)
    with torch.no_grad():
        assert net(images(size)).shape == (2, 15, heatmap_size(size), heatmap_size(size))


@pytest.mark.parametrize(
    ("backbone", "side", "doublings"),
    [
        ("timm/swin_tiny_patch4_window7_224", 128, 2),
        ("timm/vit_tiny_patch16_224", 128, 1),
        ("timm/eva02_tiny_patch14_224", 112, 1),
        ("timm/xcit_nano_12_p8_224", 128, 0),
        ("timm/levit_128", 128, 3),
    ],
)
def test_images_are_resized_to_what_makes_the_grid_exact(backbone, side, doublings):
    net = HeatmapNet(backbone, image_size=100)
    assert len(net.deconv_layers) == 3 * doublings
    assert given(net, images(100)).shape == (2, 3, side, side)
    with torch.no_grad():
        assert net(images(100)).shape == (2, 15, 16, 16)


@pytest.mark.parametrize("place", [(15.0, 81.0), (40.25, 73.5)])
def test_resizing_leaves_a_dot_where_it_is_in_the_image(place):
    x, y = place
    columns = torch.arange(100.0)
    dot = torch.exp(-((columns - x) ** 2 + (columns[:, None] - y) ** 2) / 18)
    net = HeatmapNet(CONVOLUTIONS, image_size=100)
    resized = given(net, (255 * dot).round().to(torch.uint8).expand(1, 3, 100, 100))
    weights = (resized - resized.min())[0, 0]
    assert weights.shape == (128, 128)
    columns = torch.arange(128.0)
    found = torch.stack([(weights.sum(axis) * columns).sum() for axis in (0, 1)]) / weights.sum()
    # the centers of pixels, as shares of the image
    torch.testing.assert_close((found + 0.5) / 128, torch.tensor([x + 0.5, y + 0.5]) / 100, rtol=0, atol=2e-4)


def of_timm(name, image):
    """Return an image as timm itself prepares it."""
    from torchvision.transforms.functional import to_pil_image

    config = timm.create_model(name, features_only=True).pretrained_cfg
    size = tuple(image.shape[1:])
    prepare = timm.data.create_transform((3, *size), mean=config["mean"], std=config["std"], crop_pct=1.0)
    return prepare(to_pil_image(image))


@pytest.mark.parametrize("backbone", ["timm/convnext_atto", ATTENTION])
def test_images_are_normalized_as_timm_does(backbone):
    net, image = HeatmapNet(backbone, image_size=64), images(64)
    expected = torch.stack([of_timm(backbone.removeprefix("timm/"), one) for one in image])
    torch.testing.assert_close(given(net, image), expected, rtol=0, atol=1e-6)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert torch.equal(given(net, image), expected.to(dtype))


def test_only_bytes_are_images():
    with pytest.raises(TypeError, match=r"images are torch\.float32: give uint8"):
        HeatmapNet(CONVOLUTIONS, image_size=64)(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("backbone", [CONVOLUTIONS, NHWC, ATTENTION, "timm/hrnet_w18_small"])
def test_gradients_reach_every_weight_that_is_trained(backbone):
    net = HeatmapNet(backbone, image_size=64)
    net.final_layer.weight.data.normal_()
    net(images(64)).square().sum().backward()
    gradients = {name: weight.grad for name, weight in net.named_parameters()}
    trained = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert {name for name, gradient in gradients.items() if gradient is not None} == trained
    first = next(name for name in trained if name.startswith("backbone."))
    assert gradients[first].abs().sum() > 0
    # four resolutions are mixed to the end, and the last one alone is taken
    assert (len(trained) < len(gradients)) == ("hrnet" in backbone)


def test_pose_net_lifts_its_heatmaps():
    net = PoseNet(ATTENTION, 64).eval()
    with torch.no_grad():
        heatmap, joints_3d, reconstruction = net(images(64))
        torch.testing.assert_close(heatmap, net.heatmap_net(images(64)))
    assert (heatmap.shape, joints_3d.shape, reconstruction.shape) == ((2, 15, 8, 8), (2, 16, 3), (2, 15, 8, 8))


def whole_model(backbone, **options):
    torch.manual_seed(7)
    model = timm.create_model(backbone.removeprefix("timm/"), **options)
    for weight in model.parameters():  # also those that begin as zeros or ones
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    return model


@pytest.mark.parametrize("backbone", [CONVOLUTIONS, NHWC, "timm/mobilenetv3_small_050"])
def test_weights_of_a_whole_model_are_those_of_the_trunk(backbone):
    model, net = whole_model(backbone).eval(), TimmBackbone(backbone, 8).eval()
    state = model.state_dict()
    net.load_weights(state)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.forward_intermediates(x, indices=[-1], intermediates_only=True, output_fmt="NCHW")[0]
        features = net.extractor(x)[-1]
    features = features.permute(0, 3, 1, 2) if backbone == NHWC else features
    assert torch.equal(features, expected)
    net.load_weights({name: value for name, value in state.items() if value.shape[:1] != (1000,)})  # no classifier


def test_weights_for_other_images_are_resized_and_all_of_them_are_loaded():
    model, net = whole_model(ATTENTION), TimmBackbone(ATTENTION, 8)
    net.load_weights(model.state_dict())
    loaded = {name.removeprefix("extractor.model."): value for name, value in net.state_dict().items()}
    assert loaded["pos_embed"].shape[1] < model.pos_embed.shape[1]
    assert torch.equal(loaded["blocks.0.attn.qkv.weight"], model.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("lacking", ["stages.2.blocks.0.mlp.fc1.weight", "stages.1.downsample.0.bias"])
def test_weights_that_are_absent_are_named(lacking):
    """Also one that is zero in a new network."""
    net, state = TimmBackbone(CONVOLUTIONS, 8), whole_model(CONVOLUTIONS).state_dict()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    del state[lacking]
    with pytest.raises(BackboneError, match=f"^lacks {lacking.replace('stages.', 'stages_')}$"):
        net.load_weights(state)
    with pytest.raises(BackboneError, match=r"^lacks stem_0\.weight and \d+ more$"):
        net.load_weights({"some.weight": torch.zeros(3)})
    with pytest.raises(BackboneError, match=r"cannot be loaded: RuntimeError: .* size mismatch"):
        net.load_weights(whole_model("timm/convnext_atto").state_dict())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_tag_says_how_images_are_normalized():
    """Both weights of the model are in timm's table, with different means."""
    nets = [TimmBackbone(f"timm/mobilenetv4_conv_small{tag}", 8) for tag in ("", ".e3600_r256_in1k")]
    assert [net.mean.flatten().tolist() for net in nets] == [pytest.approx([0.485, 0.456, 0.406]), [0.5, 0.5, 0.5]]
    # a checkpoint's network is built by the backbone's name alone
    nets[0].load_state_dict(nets[1].state_dict())
    assert torch.equal(nets[0].mean, nets[1].mean)
    tags = pretrained_tags("timm/mobilenetv4_conv_small.e3600_r256_in1k")
    assert "e3600_r256_in1k" in tags and "e1200_r224_in1k" in tags
    assert pretrained_tags("timm/nope") == []


@pytest.mark.parametrize(
    ("backbone", "complaint"),
    [
        ("timm/convnext_ato", r"timm [\d.]+ has no such model; it has .*convnext_atto"),
        ("timm/", r"timm [\d.]+ has no such model: timm\.list_models\(\) names them"),
        ("timm/hf-hub:someone/model", "has no such model"),
        ("timm/test_vit.nope", "Invalid pretrained tag"),
        ("timm/inception_v3", r"128x128 pixels \(its features are \(2048, 2, 2\) large, not \(2048, 4, 4\)"),
        ("timm/efficientformer_l1", r"makes no features of 128x128 pixels \(RuntimeError: "),
    ],
)
def test_a_backbone_that_is_of_no_use_is_named_in_one_line(backbone, complaint):
    with pytest.raises(BackboneError, match=complaint) as raised:
        HeatmapNet(backbone, image_size=128)
    assert str(raised.value).startswith(backbone)
    assert "\n" not in str(raised.value)


def test_a_grid_that_cannot_be_doubled_often_enough_is_refused():
    with pytest.raises(BackboneError, match="no heatmaps of 12 cells: take images of 128 pixels"):
        HeatmapNet("timm/levit_128", image_size=96)
