"""The reference way of training does what its recipe says: its targets and losses are ours, and it learns."""

import itertools

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.peers import reference_training as module
from benchmarks.peers.reference_training import Recipe, pose_error, reference_training, summed_error
from benchmarks.peers.reference_way import Frames, encode_heatmaps, frame_loader
from engine.stages import STAGES, ModelConfig
from loaders import PoseBatch
from models import heatmaps
from models.heatmap_net import heatmap_size
from models.losses import LossWeights, PoseLoss, reconstruction_loss
from models.xr_egopose import SKELETON

pytestmark = pytest.mark.slow

SIDE, BATCH = 64, 4
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("training") / "dataset"
    data.synthesize(root, 8)
    return root


@pytest.fixture(scope="module")
def batch(dataset):
    pytest.importorskip("skimage")
    return next(iter(frame_loader(dataset, SIDE, BATCH, 0, seed=0)))


def poses(seed):
    return torch.randn(BATCH, 16, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("image_size", [64, 100, 368])
def test_heatmaps_are_ours_quantized(image_size):
    joints = np.random.default_rng(0).uniform(-0.5 * image_size, 1.5 * image_size, (50, 16, 2))
    joints[0, :4] = [[-9e4, 5], [5, 9e4], [0, 0], [image_size, image_size]]
    drawn = np.stack([encode_heatmaps(one, image_size) for one in joints])
    selected = heatmaps.select_heatmap_joints(torch.from_numpy(joints), SKELETON)
    expected = heatmaps.HeatmapEncoder(image_size, heatmap_size(image_size), quantized=True)(selected)
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-6)
    inside = drawn.any((2, 3))
    assert 0 < inside.sum() < inside.size


def test_frames(batch):
    image, drawn, joints_3d = batch
    assert [part.shape for part in batch] == [(BATCH, 3, SIDE, SIDE), (BATCH, 15, 8, 8), (BATCH, 16, 3)]
    assert {part.dtype for part in batch} == {torch.float32}
    assert image.is_contiguous()
    assert drawn.amax((2, 3)).max() == 1
    assert not joints_3d[:, 0].any()


def test_epochs_join_without_an_end(dataset):
    pytest.importorskip("skimage")
    frames = Frames(dataset, SIDE)
    loader = frame_loader(dataset, SIDE, 3, 0, seed=0)
    order = list(itertools.islice(loader.sampler, 3 * len(frames)))
    epochs = [order[start : start + len(frames)] for start in range(0, len(order), len(frames))]
    assert all(sorted(epoch) == list(range(len(frames))) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert {len(one[0]) for one in itertools.islice(loader, 4)} == {3}


def test_pose_error_is_ours():
    predicted, true = poses(0), poses(1)
    expected = sum(PoseLoss(LossWeights(), SKELETON)(predicted, true).values())
    torch.testing.assert_close(pose_error(predicted, true), expected)


def test_summed_error_is_ours():
    predicted, true = torch.rand(2, BATCH, 15, 8, 8)
    torch.testing.assert_close(summed_error(predicted, true), reconstruction_loss(predicted, true))


@pytest.mark.parametrize("name", STAGES)
def test_losses_are_our_stages(batch, monkeypatch, name):
    image, drawn, joints_3d = batch
    recipe = Recipe(name, "resnet18", SIDE, CPU)
    stage = STAGES[name](ModelConfig(backbone="resnet18"), SIDE)
    model = stage.build_model().train()
    ours = {part: network.state_dict() for part, network in stage.networks(model).items()}
    if "heatmap" in recipe.networks:
        assert recipe.networks["heatmap"][0].weight.shape == (64, 3, 7, 7)
        values = ours["heatmap_net"].values()
        state = dict(zip(recipe.networks["heatmap"].state_dict(), values, strict=True))
        recipe.networks["heatmap"].load_state_dict(state)
    if "lifting" in recipe.networks:
        recipe.networks["lifting"].load_state_dict(ours["lifting_net"])
    assert sum(p.numel() for p in recipe.networks.parameters()) == sum(p.numel() for p in model.parameters())

    # ours normalizes bytes itself
    pixels = ((image + 1) * 127.5).round().byte()
    joints = joints_3d.shape[:2]
    as_bytes = PoseBatch(
        image=pixels,
        joints_3d=joints_3d,
        joints_2d=torch.zeros(*joints, 2),
        visible=torch.zeros(joints, dtype=torch.uint8),
        meta=torch.zeros(len(joints_3d), 4, dtype=torch.int32),
        index=torch.arange(len(joints_3d)),
    )
    monkeypatch.setattr(stage, "targets", lambda _: drawn)
    _, terms = stage.forward_and_loss(model, as_bytes)
    torch.testing.assert_close(
        recipe.loss(pixels / 127.5 - 1, drawn, joints_3d), sum(terms.values()), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", STAGES)
def test_learns(batch, name):
    torch.manual_seed(0)
    recipe = Recipe(name, "resnet18", SIDE, CPU)
    losses = [recipe.step(batch).item() for _ in range(6)]
    assert np.isfinite(losses).all()
    assert min(losses[3:]) < losses[0]


@pytest.mark.parametrize(("name", "workers"), [("train2d", 0), ("train3d", 1), ("finetune", 0)])
def test_steps(dataset, monkeypatch, name, workers):
    pytest.importorskip("skimage")
    made = []
    monkeypatch.setattr(module, "Recipe", lambda *given: made.append(Recipe(*given)) or made[-1])
    sizes = {"image_size": SIDE, "batch_size": BATCH, "workers": workers}
    with reference_training(dataset, name, "resnet18", **sizes, device=CPU, seed=0) as work:
        (recipe,) = made
        before = [parameter.clone() for parameter in recipe.networks.parameters() if parameter.requires_grad]
        # more than an epoch of 8 frames
        assert [work.step() for _ in range(3)] == [BATCH] * 3
        assert work.synchronize is None
    after = [parameter for parameter in recipe.networks.parameters() if parameter.requires_grad]
    assert all(parameter.isfinite().all() for parameter in after)
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_loss_is_printed_as_often_as_the_recipe_does(dataset, monkeypatch):
    pytest.importorskip("skimage")
    asked = []

    class Loss:
        def item(self):
            asked.append(len(asked))

    monkeypatch.setattr(Recipe, "step", lambda self, batch: Loss())
    monkeypatch.setitem(module._PRINT_EVERY, "train2d", 3)
    sizes = {"image_size": SIDE, "batch_size": 1, "workers": 0}
    with reference_training(dataset, "train2d", "resnet18", **sizes, device=CPU, seed=0) as work:
        for _ in range(7):
            work.step()
    assert len(asked) == 2
