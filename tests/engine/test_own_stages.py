"""``--stage path/to/file.py:Class``: what is wrong with a stage of one's own is said in one line."""

import re
import textwrap
from pathlib import Path

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.stages import STAGES, ModelConfig, build_stage, find_stage
from loaders import InputError
from tests.engine.own_files import write_own
from tests.engine.training_runs import flags, read_metrics, run, start
from tests.shard_factory import make_shard_set

WHOLE = """
    import torch
    from torch import nn
    from engine.stages import Prediction, Stage

    class Mean(Stage):
        outputs = ()
        metric = "mpjpe_mm"

        def build_model(self):
            return nn.Linear(1, 48)

        def networks(self, model):
            return {"mean": model}

        def forward_and_loss(self, model, batch):
            pose = model(torch.ones(len(batch), 1)).unflatten(1, (16, 3))
            return Prediction(joints_3d=pose), {"pose": (pose - batch.joints_3d).square().mean()}
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("own") / "shards", {"train": 8, "val": 4}, image_size=64)


def write(folder, *changes):
    """Write the stage with words exchanged; return its name."""
    return f"{write_own(folder, WHOLE, *changes)}:Mean"


def test_a_stage_in_a_file_trains(tmp_path, monkeypatch, shards):
    assert run(monkeypatch, *flags(shards, tmp_path / "run", write(tmp_path), "--max-steps", "2")) == 0
    weights = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["weights"]
    assert weights.keys() == {"mean"}


def test_the_loss_of_the_documentation_is_one_more_term_of_the_engines_stage(tmp_path, monkeypatch, shards):
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "HeavyHands" in block]
    (tmp_path / "hands.py").write_text(block)
    more = ("--max-steps", "2", "--epochs", "1")
    assert run(monkeypatch, *flags(shards, tmp_path / "run", f"{tmp_path}/hands.py:HeavyHands", *more)) == 0
    entries = read_metrics(tmp_path / "run" / "metrics.jsonl")
    terms = {name for entry in entries for name in entry if name.startswith("val/loss/")}
    assert terms == {f"val/loss/{term}" for term in ("heatmap", "reconstruction", "pose", "cosine", "bone", "hands")}
    assert checkpoint.load(tmp_path / "run" / "last.pt").weights.keys() == {"heatmap_net", "lifting_net"}


def test_a_module_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine" / "stage.py").write_text(textwrap.dedent(WHOLE))
    monkeypatch.chdir(tmp_path)
    found = find_stage("package_of_mine.stage:Mean")
    assert found.name == "package_of_mine.stage:Mean"
    assert build_stage(found.name, ModelConfig(), 64).image_size == 64
    assert find_stage("finetune") is STAGES["finetune"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "train4d",
            r"stage is train4d: give train2d, train3d, finetune, or a class of your own as package\.module:Class",
        ),
        ("absent.py:Mean", r"absent\.py is no file"),
        ("absent_package.stage:Mean", "absent_package.stage cannot be imported: ModuleNotFoundError"),
        ("engine.precision:Absent", "engine.precision has no class Absent; it has .*Precision"),
        ("engine.stages:Prediction", r"engine\.stages:Prediction is not derived from engine\.stages\.Stage"),
        ("engine.stages:", "names no class"),
    ],
)
def test_what_is_no_stage_is_named(name, said):
    with pytest.raises(InputError, match=said) as error:
        find_stage(name)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("class Mean", "1 / 0\nclass Mean")], r"own\.py cannot be imported: ZeroDivisionError"),
        ([("    metric = ", "    judge = ")], r"own\.py:Mean lacks metric: see engine\.stages\.Stage"),
        ([("def networks", "def parts")], r"own\.py:Mean lacks networks: see"),
        (
            [("def build_model", "def __init__(self):\n        super().__init__()\n\n    def build_model")],
            "is not made as",
        ),
        ([("nn.Linear(1, 48)", "48")], r"build_model returns a int, not a torch\.nn\.Module"),
        ([("Prediction(joints_3d=pose)", "pose")], r"returns a \w*Tensor, not an engine\.stages\.Prediction"),
        ([("joints_3d=pose)", "joints_3d=pose[:, 1:])")], r"joints_3d of shape \(\d, 15, 3\), not \(\d, 16, 3\)"),
        (
            [(".square().mean()", ".square()")],
            r"returns the term pose of its loss of shape \(\d, 16, 3\), not as a scalar tensor",
        ),
        ([('"mpjpe_mm"', '"error_px"')], "is judged by error_px, and there are .*mpjpe_mm"),
    ],
)
def test_what_is_wrong_with_a_stage_is_one_line(tmp_path, shards, changes, said):
    process = start(flags(shards, tmp_path / "run", write(tmp_path, *changes), "--max-steps", "2"))
    lines = process.communicate(timeout=120)[0].strip().splitlines()
    assert process.returncode == 2
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]


def test_windows_are_for_stages_that_see_them(tmp_path, monkeypatch, capsys, shards):
    for stage in ("train3d", write(tmp_path)):
        assert run(monkeypatch, *flags(shards, tmp_path / "run", stage, "--data.window", "3")) == 2
        assert f"data.window is 3, and {stage} sees single frames: leave it out" in capsys.readouterr().err
