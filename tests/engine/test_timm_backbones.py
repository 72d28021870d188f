"""Networks with backbones of timm: trained, resumed, evaluated, exported, begun with pretrained weights."""

import dataclasses
import json
from pathlib import Path

import cv2
import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.config import TrainConfig
from engine.distributed import Process
from engine.evaluate import main as evaluate
from engine.infer import main as infer
from engine.stages import STAGES, ModelConfig
from engine.stages.pretrained import to_download
from engine.training.compilation import choose_graph, choose_mode
from loaders import DataConfig, InputError
from models.timm_backbone import TimmBackbone
from tests.dry_runs import rows
from tests.engine.training_runs import finish, flags, run, start
from tests.shard_factory import make_shard_set
from tools.export import generated_frames
from tools.export import main as export

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.slow

CONVOLUTIONS, ATTENTION = "timm/test_convnext", "timm/test_vit"
"""The smallest of their kind."""
TAG = "r160_in1k"
"""Of both."""
TWO_MEANS, OTHER_MEAN = "timm/mobilenetv4_conv_small", "e3600_r256_in1k"
"""A model whose default tag has another mean than this one."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    splits = {"train": 10, "val": 3, "test": 4}
    return make_shard_set(tmp_path_factory.mktemp("timm") / "shards", splits, image_size=64)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shards):
    """Return the folders of runs of two steps, by stage and backbone."""
    folder, folders = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        for stage, backbone, more in (
            ("train2d", ATTENTION, ("--precision", "bf16", "--optim.ema", "0.9")),
            ("finetune", CONVOLUTIONS, ()),
            ("finetune", ATTENTION, ()),
        ):
            name = folders[stage, backbone] = folder / f"{stage}-{backbone[5:]}"
            made = flags(shards, name, stage, "--model.backbone", backbone, "--max-steps", "2", *more)
            assert run(patch, *made) == 0
    return folders


def built(backbone, pretrained=None, stage="train2d"):
    """Return a stage's network."""
    return STAGES[stage](ModelConfig(backbone=backbone, pretrained=pretrained), 64).build_model()


def test_a_run_goes_on_and_its_network_is_evaluated_and_used(tmp_path, monkeypatch, shards, runs):
    common = ["--device", "cpu", "--precision", "fp32"]
    frame = generated_frames(1, 200)[0].transpose(1, 2, 0)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "frame.png"), frame[:, :, ::-1])
    for (stage, backbone), folder in runs.items():
        if (stage, backbone) == ("finetune", ATTENTION):
            continue
        more = ("--precision", "bf16", "--optim.ema", "0.9") if stage == "train2d" else ()
        arguments = flags(shards, folder, stage, "--model.backbone", backbone, "--max-steps", "4", *more, "--resume")
        assert run(monkeypatch, *arguments) == 0
        assert checkpoint.load(folder / "last.pt").step == 4
        report = tmp_path / stage
        given = ["--checkpoint", str(folder / "last.pt")]
        assert (
            evaluate([*given, "--data.shards", str(shards), "--output", str(report), "--examples", "1", *common]) == 0
        )
        assert json.loads((report / "metrics.json").read_text())["evaluation"]["backbone"] == backbone
    given = ["--checkpoint", str(runs["finetune", CONVOLUTIONS] / "last.pt")]
    folders = ["--input-dir", str(tmp_path / "images"), "--output-dir", str(tmp_path / "out")]
    assert infer([*given, *folders, *common]) == 0
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) == 1


@pytest.mark.parametrize(("backbone", "ending"), [(CONVOLUTIONS, "onnx"), (CONVOLUTIONS, "pt2"), (ATTENTION, "onnx")])
def test_an_exported_network_computes_the_same(tmp_path, capsys, runs, backbone, ending):
    """What is written is compared with PyTorch before it gets its name."""
    output = tmp_path / f"model.{ending}"
    given = ["--checkpoint", str(runs["finetune", backbone] / "best.pt"), "--output", str(output)]
    assert export(given) == 0
    assert "largest difference to PyTorch: heatmap" in capsys.readouterr().out
    assert output.stat().st_size > 100_000


def test_another_backbone_does_not_resume(monkeypatch, capsys, shards, runs):
    folder = runs["finetune", CONVOLUTIONS]
    arguments = flags(shards, folder, "finetune", "--model.backbone", ATTENTION, "--resume")
    assert run(monkeypatch, *arguments) == 2
    assert f"was trained with model.backbone {CONVOLUTIONS}, not {ATTENTION}: keep it" in capsys.readouterr().err


def test_weights_begin_another_stage(runs):
    """Of train2d to finetune, as --load-2d has it."""
    source = runs["train2d", ATTENTION] / "last.pt"
    stage = STAGES["finetune"](ModelConfig(backbone=ATTENTION), 64)
    model = stage.build_model()
    state = checkpoint.load_network(source, "heatmap_net", stage.skeleton)
    stage.load_weights(model, {"heatmap_net": state}, source)
    assert all(torch.equal(value, state[name]) for name, value in model.heatmap_net.state_dict().items())
    other = STAGES["finetune"](ModelConfig(backbone=CONVOLUTIONS), 64)
    with pytest.raises(InputError, match=r"does not fit this configuration .*: keep model\.backbone"):
        other.load_weights(other.build_model(), {"heatmap_net": state}, source)


def test_two_processes_train_weights_that_nothing_depends_on(tmp_path, shards):
    """A norm behind this model's last features: DistributedDataParallel would wait for its gradient."""
    backbone = "timm/pit_ti_224"
    assert any(not weight.requires_grad for weight in built(backbone).parameters())
    more = ("--model.backbone", backbone, "--data.batch-size", "2", "--max-steps", "2")
    output = finish(start(flags(shards, tmp_path / "run", "train2d", *more), processes=2))
    assert checkpoint.load(tmp_path / "run/last.pt").step == 2, output


def whole_model(backbone):
    """Return a model of timm with a classifier, each of whose weights is another than at the beginning."""
    torch.manual_seed(7)
    model = timm.create_model(backbone.removeprefix("timm/"))
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    return model


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_of_timms_gives_the_trunk_its_weights(tmp_path, ending):
    model = whole_model(CONVOLUTIONS)
    timm.models.save_for_hf(model, tmp_path, safe_serialization="both")
    (file,) = (path for path in tmp_path.iterdir() if path.suffix in {ending, {".pth": ".bin"}.get(ending)})
    net = built(CONVOLUTIONS, str(file.rename(file.with_suffix(ending))))
    state, trunk = model.state_dict(), net.backbone.extractor.state_dict()
    assert torch.equal(trunk["stem_0.weight"], state["stem.0.weight"])
    # as timm flattens them, with a classifier and a last norm that features do without
    named = {name.replace("stem.", "stem_").replace("stages.", "stages_"): value for name, value in state.items()}
    assert trunk and all(torch.equal(value, named[name]) for name, value in trunk.items())
    assert not to_download(ModelConfig(backbone=CONVOLUTIONS, pretrained=str(file.with_suffix(ending))))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return where timm's downloads lie, and keep timm from the network."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


def test_a_tag_is_what_timm_has_downloaded_with_the_mean_that_belongs_to_it(cache):
    model = whole_model(TWO_MEANS)
    folder = cache / f"models--timm--{TWO_MEANS[5:]}.{OTHER_MEAN}"
    timm.models.save_for_hf(model, str(folder / "snapshots" / ("0" * 40)), safe_serialization=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    net = built(TWO_MEANS, OTHER_MEAN)
    assert torch.equal(net.backbone.extractor.state_dict()["conv_stem.weight"], model.conv_stem.weight)
    assert net.backbone.mean.flatten().tolist() == [0.5, 0.5, 0.5] != built(TWO_MEANS).backbone.mean.flatten().tolist()


def test_what_is_to_be_downloaded_is_told_and_left_out_of_a_dry_run(tmp_path, monkeypatch, capsys, shards, cache):
    wanted = ModelConfig(backbone=CONVOLUTIONS, pretrained=TAG)
    assert to_download(wanted)
    assert not to_download(dataclasses.replace(wanted, pretrained="nope"))
    assert not to_download(dataclasses.replace(wanted, pretrained=None))
    more = ("--model.backbone", CONVOLUTIONS, "--model.pretrained", TAG)
    arguments = flags(shards, tmp_path / "run", "train2d", *more)
    assert run(monkeypatch, *arguments, "--dry-run") == 0
    assert f"{TAG} may have to be downloaded: measured without it" in rows(capsys.readouterr().out)["warning"]
    assert run(monkeypatch, *arguments) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert f"model.pretrained {TAG} cannot be downloaded (" in line and line.endswith("): give a file instead")


def test_mistakes_are_one_line_each(tmp_path):
    state = whole_model(CONVOLUTIONS).state_dict()
    del state["stages.2.blocks.0.mlp.fc1.weight"]
    torch.save(state, tmp_path / "part.pth")
    torch.save({"stem.0.weight": torch.full((2,), torch.nan)}, tmp_path / "nan.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save(whole_model(ATTENTION).state_dict(), tmp_path / "other.pth")
    torch.save(whole_model("timm/convnext_atto").state_dict(), tmp_path / "larger.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    for pretrained, complaint in {
        "nope": f"'nope': neither a file nor weights of {CONVOLUTIONS}; timm's are {TAG}",
        "part.pth": f"part.pth lacks stages_2.blocks.0.mlp.fc1.weight: it is no {CONVOLUTIONS}",
        "nan.pth": "nan.pth: stem.0.weight is non-finite: give another file",
        "empty.pth": f"empty.pth holds no weights: give those of {CONVOLUTIONS}",
        "other.pth": f"other.pth cannot be loaded: KeyError: 'blocks.0.attn.qkv.weight': it is no {CONVOLUTIONS}",
        "larger.pth": "larger.pth cannot be loaded: RuntimeError: ",
        "text.safetensors": "text.safetensors cannot be read (",
    }.items():
        given = str(tmp_path / pretrained) if "." in pretrained else pretrained
        with pytest.raises(InputError) as raised:
            built(CONVOLUTIONS, given)
        assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_a_backbone_that_nobody_has_is_one_line(tmp_path, monkeypatch, capsys, shards):
    for backbone, complaint in {
        "resnet20": "model.backbone is 'resnet20': give resnet18, resnet34, ",
        "timm/test_convnex": "model.backbone timm/test_convnex: timm ",
        "timm/levit_128": "model.backbone timm/levit_128 has a cell for 64 pixels",
    }.items():
        more = ("--model.backbone", backbone, *(("--data.image-size", "96") if "levit" in backbone else ()))
        assert run(monkeypatch, *flags(shards, tmp_path / "run", "train2d", *more)) == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
        assert complaint in line


def test_without_timm_its_backbones_are_refused_and_the_others_are_not(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^model\.backbone timm/test_vit needs timm: pip install timm$"):
        ModelConfig(backbone=ATTENTION)
    assert ModelConfig(backbone="resnet18").backbone == "resnet18"


def test_nothing_is_compiled_or_recorded_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("engine.training.compilation.compiler_fault", lambda device: "")
    gpu = Process(0, 1, torch.device("cuda:0"))

    def chosen(stage, backbone, **more):
        data, model = DataConfig(shards=Path("shards"), batch_size=8), ModelConfig(backbone=backbone)
        made = TrainConfig(stage=stage, run_dir=Path("run"), data=data, model=model, **more)
        made = dataclasses.replace(made, compile=choose_mode(made, gpu))
        return made.compile, choose_graph(made, gpu)

    assert chosen("train2d", ATTENTION) == chosen("finetune", ATTENTION) == ("off", False)
    assert chosen("train2d", ATTENTION, compile="default", cuda_graph="always") == ("default", True)
    assert chosen("train3d", ATTENTION) == chosen("train3d", "resnet50") == ("default", True)


def test_a_network_is_what_its_seed_says():
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(TimmBackbone(CONVOLUTIONS, 8).state_dict())
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())
