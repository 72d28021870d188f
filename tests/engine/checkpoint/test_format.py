import argparse
import collections
import math
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from engine import evaluate, infer
from engine.checkpoint import format as checkpoint
from engine.checkpoint.format import random_state, restore_random_state
from engine.checkpoint.torch_file import DamagedError
from engine.loaded_model import read_model
from engine.stages import STAGES, ModelConfig
from loaders import InputError
from models.heatmap_net import HeatmapNet
from models.pose_net import PoseNet
from models.xr_egopose import SKELETON
from tests.checkpoint_factory import checkpoint_of, make_checkpoint, make_resume_state
from tests.engine.training_runs import flags, run
from tests.shard_factory import make_shard_set
from tools import convert_checkpoint, export

WEIGHTS = {"resnet_state_dict": {"conv1.weight": torch.arange(3.0)}}
"""A reference checkpoint as far as this floor reads it."""
PREPROCESSING = {"crop": "square", "image_size": 64, "format": "jpeg", "quality": 95}


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "last.pt"
    state = make_resume_state(validations=[{"loss": 0.5}], averaged_steps=torch.tensor(2), random=random_state())
    weights = {"heatmap_net": {"a": torch.arange(5)}}
    saved = checkpoint_of(step=3, weights=weights, preprocessing={"crop": "square"}, resume_state=state)
    checkpoint.save(path, saved)
    loaded = checkpoint.load(path)
    assert (loaded.step, loaded.preprocessing) == (3, {"crop": "square"})
    assert (loaded.resume_state.best, loaded.resume_state.validations) == (math.inf, [{"loss": 0.5}])
    assert loaded.resume_state.random.keys() == state.random.keys()
    restore_random_state(loaded.resume_state.random)
    assert torch.equal(loaded.weights["heatmap_net"]["a"], torch.arange(5))
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.load(tmp_path / "absent.pt")
    with pytest.raises(InputError, match="is a folder"):
        checkpoint.load(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(DamagedError, match="cannot be read"):
        checkpoint.load(tmp_path / "text.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(DamagedError, match="is empty"):
        checkpoint.load(tmp_path / "empty.pt")
    checkpoint.save(tmp_path / "cut.pt", checkpoint_of(weights={"x": {"w": torch.zeros(1000)}}))
    data = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError, match="cannot be read"):
        checkpoint.load(tmp_path / "cut.pt")
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match=r"neither.*it holds state_dict, epoch.*torch.save"):
        checkpoint.load(tmp_path / "foreign.pt")
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="no run to go on with"):
        checkpoint.load(tmp_path / "weights.pt")
    torch.save({"format": checkpoint.FORMAT, "version": 0}, tmp_path / "old.pt")
    with pytest.raises(InputError, match="version 0"):
        checkpoint.load(tmp_path / "old.pt")
    checkpoint.save(tmp_path / "2d.pt", checkpoint_of(weights={"heatmap_net": {}}))
    with pytest.raises(InputError, match="holds no lifting_net, only heatmap_net"):
        checkpoint.load_network(tmp_path / "2d.pt", "lifting_net", SKELETON)
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "stage": "train2d"}, tmp_path / "few.pt")
    with pytest.raises(InputError, match="holds no image_size: it was altered"):
        checkpoint.load(tmp_path / "few.pt")


def write_zip_of(path, content):
    torch.save(content, path.with_name("best.pt"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_name("best.pt"), "best.pt")


def write_tar_of(path, content):
    torch.save(content, path.with_name("best.pt"))
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_name("best.pt"), "best.pt")


def write_script(path, content):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


class Shell:
    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


class Options(dict):
    """As EasyDict and others."""


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_zip_of, "a ZIP archive of best.pt, not a checkpoint: unpack it"),
        (write_tar_of, "a tar archive, not a checkpoint: unpack it"),
        (write_script, "a TorchScript program: save its weights alone"),
        (lambda path, content: path.write_bytes(pickle.dumps(content)), "a plain pickle"),
        (lambda path, content: torch.save(torch.nn.Linear(2, 2), path), "holds one torch.nn.modules.linear.Linear"),
        (lambda path, content: torch.save(torch.zeros(2), path), "holds one Tensor"),
        (lambda path, content: torch.save({**content, "x": Shell()}, path), r"whole, but .*system"),
        (lambda path, content: torch.save({**content, "x": Options(lr=1)}, path), r"whole, but .*Options"),
        (lambda path, content: torch.save(content, path, pickle_protocol=4), "whole, but .*Unsupported operand"),
        (lambda path, content: torch.save({"resnet_state_dict": torch.nn.Linear(2, 2)}, path), "is a torch.nn.modules"),
        (
            lambda path, content: torch.save({"resnet_state_dict": {"a": np.zeros(2)}}, path),
            "a of its heatmap_net is no",
        ),
        (lambda path, content: torch.save(HeatmapNet("resnet18").conv1.state_dict(), path), "neither"),
        (lambda path, content: torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, path), "--model.pretrained"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_kinds_of_files_are_named(tmp_path, monkeypatch, write, expected):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "given.pt", WEIGHTS)
    with pytest.raises(InputError, match=expected) as caught:
        checkpoint.load_any(tmp_path / "given.pt")
    assert not isinstance(caught.value, DamagedError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        {"best": np.float64(0.5), "mean": np.zeros(3), "seen": np.array(["a"], object)},
        {"args": argparse.Namespace(lr=1, out=Path("/x")), "scores": collections.Counter("aab")},
        {"history": collections.defaultdict(list, loss=[1.0]), "last": collections.deque([1, 2])},
        {"scheduler": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)]), 3)},
        {"shape": slice(1, 2), "kinds": {int, complex}, "frozen": frozenset("ab"), "value": 1j},
    ],
    ids=",".join,
)
def test_objects_of_other_programs_do_no_harm(tmp_path, extra, zipped):
    torch.save({**WEIGHTS, **extra}, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
    weights = checkpoint.load_any(tmp_path / "theirs.pt")
    assert torch.equal(weights["heatmap_net"]["conv1.weight"], torch.arange(3.0))


def test_the_dictionary_itself_may_be_another_programs(tmp_path):
    torch.save(collections.defaultdict(list, WEIGHTS), tmp_path / "theirs.pt")
    assert list(checkpoint.load_any(tmp_path / "theirs.pt")) == ["heatmap_net"]


def test_a_foreign_type_does_not_hide_damage(tmp_path):
    torch.save({**WEIGHTS, "best": np.float64(0.5)}, tmp_path / "theirs.pt")
    data = bytearray((tmp_path / "theirs.pt").read_bytes())
    data[data.index(np.arange(3, dtype="<f4").tobytes()) + 5] ^= 1
    (tmp_path / "theirs.pt").write_bytes(data)
    with pytest.raises(DamagedError, match="checksum"):
        checkpoint.load_any(tmp_path / "theirs.pt")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


def altered(finetuned, path, **changes):
    """Write a copy in which some keys have other values; None takes a key away."""
    content = {**torch.load(finetuned, weights_only=True), **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_weights_that_are_there_twice_are_refused(tmp_path):
    weights = WEIGHTS["resnet_state_dict"]
    torch.save(
        {"resnet_state_dict": weights | {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "a.pt"
    )
    with pytest.raises(InputError, match="holds some weights twice, with and without a wrapper's prefix"):
        checkpoint.load_any(tmp_path / "a.pt")


@pytest.mark.slow
def test_bare_state_dicts_load(tmp_path):
    with torch.random.fork_rng():
        network = PoseNet("resnet18", 64)
    saved = {
        "finetune": network.state_dict(),
        "train2d": {"epoch": 3, "state_dict": network.heatmap_net.state_dict()},
        "train3d": {f"module._orig_mod.{name}": t.half() for name, t in network.lifting_net.state_dict().items()},
    }
    for stage, content in saved.items():
        torch.save(content, tmp_path / "bare.pt")
        trained = read_model(tmp_path / "bare.pt", torch.device("cpu"))
        assert trained.stage.name == stage
    torch.testing.assert_close(trained.model.fc1.weight, network.lifting_net.fc1.weight, rtol=1e-3, atol=1e-6)


def config_of(finetuned, **model):
    config = torch.load(finetuned, weights_only=True)["config"]
    return {**config, "model": {name: v for name, v in {**config["model"], **model}.items() if v != "absent"}}


def test_an_older_checkpoint_does_not_know_where_the_head_is(tmp_path, finetuned):
    content = torch.load(finetuned, weights_only=True)
    del content["head"]
    torch.save(content, tmp_path / "older.pt")
    assert read_model(tmp_path / "older.pt", torch.device("cpu")).head is None


def test_an_older_checkpoint_has_an_options_default(tmp_path, finetuned):
    path = altered(finetuned, tmp_path / "older.pt", config=config_of(finetuned, sigma="absent"))
    assert read_model(path, torch.device("cpu")).stage.config.sigma == ModelConfig().sigma


@pytest.mark.slow
def test_what_does_not_fit_together_is_one_line(tmp_path, finetuned):
    weights = torch.load(finetuned, weights_only=True)["weights"]
    changes = (
        ({"config": config_of(finetuned, new_option=1)}, "newer program, which knows new_option of ModelConfig"),
        ({"config": config_of(finetuned, sigma="wide")}, "sigma of ModelConfig is 'wide'"),
        ({"config": config_of(finetuned, sigma=np.float64(1))}, "sigma of ModelConfig is a numpy"),
        ({"config": config_of(finetuned, backbone="resnet7")}, "altered.pt: model.backbone is 'resnet7': give"),
        ({"config": config_of(finetuned, backbone="resnet34")}, "does not fit this configuration"),
        ({"config": {"stage": "finetune"}}, "its ModelConfig is None, not a dictionary"),
        ({"config": "x"}, "its config is a str"),
        ({"config": None}, "holds no config"),
        ({"stage": None}, "holds no stage"),
        ({"stage": "train4d"}, "of stage train4d"),
        ({"image_size": 10**9}, "not for image_size 1000000000"),
        ({"image_size": "64"}, "its image_size is a str"),
        ({"weights": {"lifting_net": weights["lifting_net"]}}, "holds no heatmap_net"),
        ({"weights": {}}, "holds no heatmap_net and no lifting_net"),
        ({"weights": {**weights, "lifting_net": {}}}, "no conv3 and fc1"),
        ({"preprocessing": {**PREPROCESSING, "image_circle": {"x": 1.0}}}, "its Circle has no y and no radius"),
        (
            {"preprocessing": {**PREPROCESSING, "image_circle": {"x": 1, "y": 2, "radius": 3, "tilt": 4}}},
            "newer program, which knows tilt of Circle",
        ),
        ({"preprocessing": [64, 90]}, "its preprocessing is a list"),
        ({"preprocessing": {**PREPROCESSING, "crop": "round"}}, "crop of Preprocessing is 'round'"),
        ({"head": {"mean": [0.0, 0.0], "spread": [0.0] * 3}}, "mean of HeadPosition is [0.0, 0.0]"),
        ({"head": "up"}, "its head is a str"),
        ({"resume_state": {"best": 1.0}}, "holds no validations"),
        ({"resume_state": {**vars(make_resume_state()), "best": "low"}}, "its best is a str"),
    )
    for change, expected in changes:
        path = altered(finetuned, tmp_path / "altered.pt", **change)
        with pytest.raises(InputError) as caught:
            read_model(path, torch.device("cpu"))
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_pretrained_weights_are_as_those_of_checkpoints(tmp_path):
    path = tmp_path / "backbone.pth"
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18", pretrained=str(path)), 64)
    state = torchvision.models.resnet18().state_dict()
    older = {f"module.{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({**older, "best": np.float64(1)}, path)
    with pytest.raises(InputError, match="best of its state dict is no tensor"):
        stage.build_model()
    torch.save(older, path)
    assert torch.equal(stage.build_model().layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    torch.save({**state, "bn1.weight": torch.full((64,), torch.inf)}, path)
    with pytest.raises(InputError, match=r"state dict.bn1.weight is non-finite in 64 of 64 values"):
        stage.build_model()
    torch.save(torchvision.models.resnet50().state_dict(), path)
    with pytest.raises(InputError, match=r"lacks layer1.0.conv1.weight of that shape: it is no resnet18"):
        stage.build_model()
    path.write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        stage.build_model()


def test_every_command_refuses_non_finite_weights(tmp_path, monkeypatch, capsys, finetuned):
    content = torch.load(finetuned, weights_only=True)
    content["weights"]["lifting_net"]["b1_fc3.bias"][5] = float("nan")
    corrupted = str(altered(finetuned, tmp_path / "corrupted.pt", **content))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/last.pt").hardlink_to(corrupted)
    (tmp_path / "run/config.yaml").write_text("stage: finetune\n")
    shards = make_shard_set(tmp_path / "shards", {"train": 4, "val": 4, "test": 4})
    data, output = ["--data.shards", str(shards)], str(tmp_path / "out")

    def train(arguments):
        return run(monkeypatch, *arguments)

    commands = (
        (train, flags(shards, tmp_path / "new", "train3d", "--load-3d", corrupted)),
        (train, flags(shards, tmp_path / "run", "finetune", "--resume")),
        (evaluate.main, ["--checkpoint", corrupted, *data, "--output", output]),
        (infer.main, ["--checkpoint", corrupted, "--input", __file__, "--output", output]),
        (export.main, ["--checkpoint", corrupted, "--output", f"{output}.pt2"]),
        (convert_checkpoint.main, ["--input", corrupted, "--output", f"{output}.pth"]),
    )
    for command, arguments in commands:
        assert command(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "lifting_net.b1_fc3.bias is non-finite in 1 of 48 values" in said
        assert "resume" not in said
    assert not list((tmp_path / "new").glob("*.pt"))


@pytest.mark.parametrize("value", [float("inf"), 1e39])
def test_momentum_must_be_finite_to_go_on(tmp_path, value):
    state = {0: {"exp_avg": torch.tensor([0, value], dtype=torch.float64)}}
    resume_state = make_resume_state(optimizer={"state": state})
    checkpoint.save(tmp_path / "last.pt", checkpoint_of(resume_state=resume_state))
    with pytest.raises(InputError, match=r"optimizer.state.0.exp_avg is non-finite in 1 of 2 values"):
        checkpoint.load(tmp_path / "last.pt")
    assert checkpoint.load_any(tmp_path / "last.pt").weights == {}
