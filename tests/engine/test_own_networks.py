"""``--model.network path/to/file.py:Class``: networks of one's own in the engine's stages."""

import re

import pytest
import torch

from engine.loaded_model import read_model
from engine.stages import STAGES, ModelConfig
from loaders import InputError, PoseBatch
from tests.engine.own_files import write_own
from tests.engine.training_runs import finish, flags, run, same, start, weights
from tests.shard_factory import make_shard_set

NETWORKS = """
    import torch
    from torch import nn
    from models.lifting_net import LiftingNet

    class Maps(nn.Module):
        def __init__(self, image_size, heatmap_size):
            super().__init__()
            self.size = heatmap_size
            self.maps = nn.Conv2d(3, 15, 1)

        def forward(self, image):
            return self.maps(nn.functional.interpolate(image.float() / 255, (self.size, self.size)))

    class Lift(nn.Module):
        def __init__(self, image_size, heatmap_size):
            super().__init__()
            self.pose = nn.Linear(15 * heatmap_size ** 2, 48)

        def forward(self, heatmaps):
            return self.pose(heatmaps.flatten(1)).unflatten(1, (16, 3))

    class Both(nn.Module):
        def __init__(self, image_size, heatmap_size):
            super().__init__()
            self.heatmap_net = Maps(image_size, heatmap_size)
            self.lifting_net = Lift(image_size, heatmap_size)

        def forward(self, image):
            heatmap = self.heatmap_net(image)
            return heatmap, self.lifting_net(heatmap)

    class Volume(nn.Module):
        sees_windows = True

        def __init__(self, image_size, heatmap_size):
            super().__init__()
            self.code = nn.Conv3d(3, 4, (1, 8, 8), stride=(1, 8, 8))
            self.lift = LiftingNet(heatmap_size)

        def forward(self, image):
            code = self.code(image.transpose(1, 2).float() / 255).mean(2)
            heatmap = nn.functional.interpolate(code, self.lift.side * 8).repeat(1, 4, 1, 1)[:, :15]
            return heatmap, *self.lift(heatmap)
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("own") / "shards", {"train": 8, "val": 4}, image_size=64)


def write(folder, *changes):
    """Write the networks with words exchanged; return the file."""
    return write_own(folder, NETWORKS, *changes)


def network(folder, name):
    return "--model.network", f"{write(folder)}:{name}"


def test_networks_of_all_stages_train_and_begin_the_last(tmp_path, monkeypatch, shards):
    """What two stages have trained, a network of two such parts begins with by the flags for ours."""
    for stage, name in (("train2d", "Maps"), ("train3d", "Lift")):
        more = (*network(tmp_path, name), "--max-steps", "2")
        assert run(monkeypatch, *flags(shards, tmp_path / stage, stage, *more)) == 0
    begun = ("--load-2d", f"{tmp_path}/train2d/last.pt", "--load-3d", f"{tmp_path}/train3d/last.pt")
    more = (*network(tmp_path, "Both"), *begun, "--max-steps", "1", "--optim.lr", "1e-9")
    assert run(monkeypatch, *flags(shards, tmp_path / "finetune", "finetune", *more)) == 0
    found = weights(tmp_path / "finetune")
    expected = weights(tmp_path / "train2d") | weights(tmp_path / "train3d")
    assert found.keys() == expected.keys() == {f"{part}.{of}" for part in PARTS for of in ("weight", "bias")}
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)


CONSTANT = ("--epochs", "2", "--optim.schedule", "constant")
"""The rate of the first steps is the same, wherever a run is to end."""
PARTS = ("heatmap_net.maps", "lifting_net.pose")


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.slow
@pytest.mark.network
def test_a_network_of_windows_trains_in_three_dimensions(tmp_path, shards, processes):
    """Weights of five dimensions; the reconstruction of the engine's lifting network counts as it does there."""
    more = (*network(tmp_path, "Volume"), "--data.window", "2", "--epochs", "1", "--data.batch-size", "2")
    finish(start(flags(shards, tmp_path / "run", "finetune", *more, "--precision", "bf16"), processes))
    loaded = read_model(tmp_path / "run" / "best.pt", torch.device("cpu"))
    assert loaded.window == (2, 1)
    assert loaded.stage.sees_windows
    assert (loaded.backbone, loaded.network) == (None, f"{tmp_path}/own.py:Volume")
    assert weights(tmp_path / "run").keys() >= {"network.code.weight", "network.lift.fc1.weight"}
    saved = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert "backbone" not in saved["config"]["model"], "nothing reads it"


def test_a_run_begins_with_all_that_a_checkpoint_holds(tmp_path, monkeypatch, shards):
    whole = (*network(tmp_path, "Volume"), "--max-steps", "1")
    assert run(monkeypatch, *flags(shards, tmp_path / "first", "finetune", *whole)) == 0
    again = (*whole, "--load", f"{tmp_path}/first/last.pt", "--optim.lr", "1e-12", "--seed", "5")
    assert run(monkeypatch, *flags(shards, tmp_path / "second", "finetune", *again)) == 0
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.allclose(second[name], first[name], atol=1e-5) for name in first if "num_batches" not in name)


def test_a_run_goes_on_with_its_own_network_alone(tmp_path, monkeypatch, capsys, shards):
    start_of = flags(shards, tmp_path / "run", "train3d", *network(tmp_path, "Lift"), *CONSTANT)
    assert run(monkeypatch, *start_of, "--max-steps", "2") == 0
    assert run(monkeypatch, *flags(shards, tmp_path / "run", "train3d", "--resume")) == 2
    assert f"was trained with model.network {tmp_path}/own.py:Lift, not None" in capsys.readouterr().err
    assert run(monkeypatch, *start_of, "--resume") == 0
    assert run(monkeypatch, *flags(shards, tmp_path / "whole", "train3d", *network(tmp_path, "Lift"), *CONSTANT)) == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_heatmaps_that_a_network_does_not_predict_have_no_loss(tmp_path):
    stage = STAGES["finetune"](ModelConfig(network=f"{write(tmp_path)}:Volume"), 64)
    batch = make_batch(3).in_windows(3)
    heatmap, reconstruction = torch.rand(2, 1, 15, 8, 8)
    pose = torch.rand(1, 16, 3)
    answers = {1: pose, 2: (heatmap, pose), 3: (heatmap, pose, reconstruction)}
    terms = {count: stage.run(lambda _: answer, batch)[1] for count, answer in answers.items()}  # noqa: B023
    assert terms[1].keys() == {"pose", "cosine", "bone"}
    assert terms[2].keys() == terms[1].keys() | {"heatmap"}
    assert terms[3].keys() == terms[2].keys() | {"reconstruction"}
    true = stage.targets(batch.predicted)
    assert terms[2]["heatmap"] == pytest.approx(float((heatmap - true).square().mean()))
    assert terms[3]["reconstruction"] == pytest.approx(0.001 * float((reconstruction - heatmap).square().sum()))
    assert terms[1]["pose"] == pytest.approx(0.1 * float((pose - batch.joints_3d[:, -1]).norm(dim=-1).mean()))


def make_batch(frames):
    return PoseBatch(
        joints_2d=64 * torch.rand(frames, 16, 2),
        joints_3d=torch.rand(frames, 16, 3),
        visible=torch.full((frames, 16), 2, dtype=torch.uint8),
        meta=torch.zeros(frames, 4, dtype=torch.int32),
        index=torch.arange(frames),
        image=torch.zeros(frames, 3, 64, 64, dtype=torch.uint8),
    )


@pytest.mark.parametrize(
    ("stage", "name", "changes", "said"),
    [
        ("train2d", "Maps", [("class Maps(nn.Module)", "class Maps")], r"Maps is not derived from torch\.nn\.Module"),
        ("train2d", "Heat", [], r"own\.py has no class Heat; it has Maps, Lift, Both, Volume"),
        (
            "train2d",
            "Maps",
            [("def __init__(self, image_size, heatmap_size)", "def __init__(self, size)")],
            r"own\.py:Maps is not made as Maps\(image_size=368, heatmap_size=48\): missing a required argument: 'size'",
        ),
        (
            "train3d",
            "Lift",
            [("def forward(self, heatmaps)", "def forward(self, heatmaps, scale)")],
            r"forward of .*own\.py:Lift does not take one argument, heatmaps \(B, 15, S, S\): missing .*'scale'",
        ),
        ("train3d", "Lift", [("def forward(self, heatmaps)", "def run(self, heatmaps)")], "Lift lacks forward, which"),
        (
            "train3d",
            "Lift",
            [("(16, 3))", "(24, 2))")],
            r"own\.py:Lift returns joints_3d of shape \(2, 24, 2\), not \(2, 16, 3\)",
        ),
        (
            "train2d",
            "Maps",
            [("(self.size, self.size)", "(self.size, 2)")],
            r"own\.py:Maps returns heatmap of shape \(2, 15, 8, 2\), not \(2, 15, 8, 8\)",
        ),
        ("train2d", "Both", [], r"own\.py:Both returns Tensor, Tensor: give tensors, heatmap"),
        (
            "finetune",
            "Both",
            [("return heatmap, self.lifting_net(heatmap)", "return {'pose': heatmap}")],
            r"own\.py:Both returns dict: give tensors, joints_3d, or \(heatmap, joints_3d\), or ",
        ),
        ("train3d", "Lift", [("return self.pose(", "return None, self.pose(")], r"Lift returns NoneType, Tensor: give"),
    ],
)
def test_what_is_wrong_with_a_network_is_one_line(tmp_path, stage, name, changes, said):
    with pytest.raises(InputError, match=said) as error:
        built = STAGES[stage](ModelConfig(network=f"{write(tmp_path, *changes)}:{name}"), 64)
        built.run(built.build_model(), make_batch(2))
    assert "\n" not in str(error.value)


def test_what_does_not_go_with_a_network_is_one_line(tmp_path, monkeypatch, capsys, shards):
    other = str(tmp_path / "other" / "last.pt")
    assert run(monkeypatch, *flags(shards, tmp_path / "other", "train2d", "--max-steps", "1")) == 0
    capsys.readouterr()
    for stage, name, more, said in (
        (
            "finetune",
            "Volume",
            ("--load-2d", other),
            "holds a heatmap_net, which finetune does not train; drop the flag",
        ),
        ("train3d", "Lift", ("--load", other), "holds a heatmap_net, which train3d does not train"),
        (
            "train2d",
            "Maps",
            ("--load", other),
            r"does not fit .*: keep model\.network and data\.image_size as they were",
        ),
        (
            "train3d",
            "Lift",
            ("--data.window", "2"),
            r"data\.window is 2, and .*own\.py:Lift sees single frames: leave it",
        ),
    ):
        assert run(monkeypatch, *flags(shards, tmp_path / "run", stage, *network(tmp_path, name), *more)) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.search(said, line), line


def test_what_a_network_leaves_unused_is_said(tmp_path, monkeypatch, caplog, shards):
    more = (*network(tmp_path, "Maps"), "--model.pretrained", "NOBODY", "--max-steps", "1")
    with caplog.at_level("INFO"):
        assert run(monkeypatch, *flags(shards, tmp_path / "run", "train2d", *more)) == 0
    assert "train2d ignores model.backbone resnet18 here" in caplog.text
    assert "train2d ignores model.pretrained NOBODY here" in caplog.text
