"""What ``train --dry-run`` announces is what the run then does, and it leaves everything as it was."""

import contextlib
import json
import re
import shutil

import pytest
import torch
import torchvision

from engine.checkpoint import format as checkpoint
from engine.config import parse_train, used_values
from engine.stages import ModelConfig
from engine.stages.pretrained import to_download
from engine.training import forecast
from engine.training.run_folder import claimed
from loaders import InputError
from tests.dry_runs import bytes_of, read_only, rows, snapshot
from tests.engine.training.test_run_folder import ALONE
from tests.engine.training_runs import finish, flags, read_metrics, run, same, start, weights
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

STAGES = ("train2d", "train3d", "finetune")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("forecast") / "shards", {"train": 18, "val": 5}, image_size=64)


@pytest.fixture
def train(monkeypatch, capsys):
    """Return a function that trains and returns the exit status and what went to the two streams."""
    monkeypatch.setattr(forecast, "_SECONDS", 0.1)

    def begin(*arguments):
        status = run(monkeypatch, *arguments)
        said = capsys.readouterr()
        # records have a time in front
        return status, said.out, re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", said.err)

    return begin


def announced(train, *arguments):
    status, out, err = train(*arguments, "--dry-run")
    assert status == 0, err
    return rows(out)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_announced_is_done(tmp_path, train, shards, stage):
    arguments = flags(shards, tmp_path / "run", stage, "--epochs", "3", "--validate-every", "2", "--optim.ema", "0.9")
    before, board = snapshot(tmp_path), snapshot(shards)
    said = announced(train, *arguments)
    assert (snapshot(tmp_path), snapshot(shards)) == (before, board)
    assert train(*arguments)[0] == 0
    steps = json.loads((tmp_path / "run/summary.json").read_text())["steps"]
    validations = [entry for entry in read_metrics(tmp_path / "run/metrics.jsonl") if "val/loss" in entry]
    assert said["to do"] == f"{steps} steps, {len(validations)} validations"
    assert said["epoch"] == "4 steps"
    assert said["samples"] == "18 train, 5 val"
    assert said["run"] == f"begins in {tmp_path}/run"
    for network, state in checkpoint.load(tmp_path / "run/last.pt").weights.items():
        own = [value for key, value in state.items() if not re.search("running_|num_batches", key)]
        assert said[network.replace("_", " ")] == f"{sum(value.numel() for value in own):,} parameters"
    kept = sorted(tmp_path.glob("run/*.pt"))
    assert len(kept) == 3
    each, stay, all_of_them = re.fullmatch(r"(.*); (\d) stay, (.*)", said["checkpoint"]).groups()
    last = (tmp_path / "run/last.pt").stat().st_size
    assert bytes_of(each) == pytest.approx(last, rel=0.01)
    assert stay == "3"
    # the best one may be that of step 0, whose optimizer has no state yet
    assert bytes_of(all_of_them) == pytest.approx(3 * last, rel=0.01)
    assert "dry_run" not in (tmp_path / "run/config.yaml").read_text()


def test_a_dry_run_changes_nothing_about_the_run(tmp_path, train, shards):
    """Not its weights, and no flag of it counts as another one when it goes on."""
    plain, tried = (flags(shards, tmp_path / name, "train3d", "--max-steps", "3") for name in ("plain", "tried"))
    assert train(*plain)[0] == 0
    announced(train, *tried)
    assert train(*tried)[0] == 0
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "tried"))
    more = (*tried, "--max-steps", "9", "--resume")
    before = snapshot(tmp_path)
    status, out, err = train(*more, "--dry-run")
    assert status == 0
    assert [line for line in err.splitlines() if " ignores " not in line] == [
        "resumed: max_steps is 9, was 3 up to step 3"
    ]
    assert snapshot(tmp_path) == before
    said = rows(out)
    assert said["run"] == f"goes on from step 3 in {tmp_path}/tried"
    # the last one was at step 3, in the midst of an epoch; then at 4, 8 and 9
    assert said["to do"] == "6 steps, 3 validations"
    status, _, err = train(*more)
    assert "resumed: max_steps is 9" in err and "dry_run" not in err
    assert [entry["step"] for entry in read_metrics(tmp_path / "tried/metrics.jsonl") if "val/loss" in entry] == [
        *(0, 3, 4, 8, 9)
    ]


def test_the_flag_is_no_part_of_what_is_recorded(shards, tmp_path):
    dry, real = (parse_train(flags(shards, tmp_path, "train3d", *more)) for more in (["--dry-run"], []))
    assert dry.dry_run
    assert used_values(dry) == used_values(real)


def test_resume_where_there_is_no_run_yet_begins(tmp_path, train, shards):
    said = announced(train, *flags(shards, tmp_path / "run", "train3d", "--resume"))
    assert said["run"] == f"begins in {tmp_path}/run"
    assert not list(tmp_path.iterdir())


def test_what_the_run_refuses_is_refused_alike(tmp_path, train, shards):
    (tmp_path / "file").touch()
    assert train(*flags(shards, tmp_path / "run", "train3d", "--max-steps", "1"))[0] == 0
    (tmp_path / "lost").mkdir()
    shutil.copy(tmp_path / "run/metrics.jsonl", tmp_path / "lost")
    empty = make_shard_set(tmp_path / "empty", {"train": 0, "val": 0})
    for arguments, words in (
        (flags(shards, tmp_path / "run", "train3d"), "already holds a run"),
        (flags(shards, tmp_path / "run", "train2d", "--resume"), "is a train3d run"),
        (flags(shards, tmp_path / "run", "train3d", "--resume", "--optim.name", "sgd"), "whose state is of no use"),
        (flags(shards, tmp_path / "lost", "train3d", "--resume"), "has no last.pt"),
        (flags(shards, tmp_path / "file", "train3d"), "File exists"),
        (flags(shards, tmp_path / "file/below", "train3d"), "Not a directory"),
        (flags(empty, tmp_path / "new", "train3d"), "has no samples"),
        (flags(shards, tmp_path / "new", "train3d", "--data.batch-size", "40"), "fewer than one batch"),
        (flags(shards, tmp_path / "new", "finetune", "--load-2d", "absent.pt"), "does not exist"),
        (flags(shards, tmp_path / "new", "train2d", "--model.pretrained", "NOBODY"), "neither a file nor"),
        (flags(shards, tmp_path / "new", "train3d", "--distributed.sync-batchnorm"), "works on GPUs only"),
    ):
        before = snapshot(tmp_path)
        dry = train(*arguments, "--dry-run")
        assert snapshot(tmp_path) == before
        assert dry == train(*arguments)
        assert dry[0] == 2
        assert words in dry[2]
        # a claimed folder stays; the next one is to find none
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


def test_a_folder_that_another_run_writes_is_refused_and_left_to_it(tmp_path, train, shards):
    arguments = flags(shards, tmp_path / "run", "train3d")
    with claimed(tmp_path / "run", ALONE, resume=False):
        before = snapshot(tmp_path)
        status, _, err = train(*arguments, "--dry-run")
        assert (status, snapshot(tmp_path)) == (2, before)
        assert "another run is writing" in err
        with pytest.raises(InputError, match="another run"), claimed(tmp_path / "run", ALONE, resume=True):
            pass


def test_where_nothing_can_be_written_it_still_tells(tmp_path, train, shards):
    with read_only(tmp_path / "protected") as folder:
        said = announced(train, *flags(shards, folder / "runs/a", "train3d"))
    assert said["to do"] == "12 steps, 4 validations"
    assert f"{folder} does not let you write: have it permitted, or give another --run-dir" in said["warning"]


def test_a_loss_that_is_not_finite_is_found(tmp_path, train, shards):
    status, out, err = train(*flags(shards, tmp_path / "run", "train2d", "--optim.lr", "1e30", "--dry-run"))
    assert (status, out) == (1, "")
    assert "the loss is not finite at step 2" in err
    assert "begin a new run with a lower optim.lr" in err


def test_nothing_is_compiled_or_downloaded(tmp_path, monkeypatch, train, shards):
    cache, hub = tmp_path / "cache", tmp_path / "hub"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    more = ("--compile", "default", "--model.pretrained", "IMAGENET1K_V1")
    before = snapshot(tmp_path)
    said = announced(train, *flags(shards, tmp_path / "run", "train2d", *more))
    assert snapshot(tmp_path) == before
    assert "measured without torch.compile" in said["warning"]
    assert "IMAGENET1K_V1 is still to be downloaded" in said["warning"]
    # where no backbone is trained there is nothing to download
    said = announced(train, *flags(shards, tmp_path / "run", "train3d", *more))
    assert "downloaded" not in said["warning"]


def test_pretrained_weights_that_are_there_are_loaded(tmp_path, monkeypatch):
    config = ModelConfig(backbone="resnet18", pretrained="IMAGENET1K_V1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert to_download(config)
    weights_file = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / weights_file).touch()
    assert not to_download(config)
    assert not to_download(ModelConfig(pretrained=str(tmp_path / "checkpoints" / weights_file)))
    assert not to_download(ModelConfig(pretrained="NOBODY"))
    assert not to_download(ModelConfig())


def test_two_processes_rehearse_together(tmp_path, shards):
    arguments = flags(shards, tmp_path / "run", "train3d", "--data.batch-size", "2", "--epochs", "2", "--dry-run")
    output = finish(start(arguments, processes=2))
    said = rows(output[output.index("dry run") :])
    assert output.count("nothing is written") == 1
    assert said["batch"] == "4 samples (2 processes x 2)"
    assert said["to do"] == "8 steps, 3 validations"
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    refused = start(arguments, processes=2)
    output, _ = refused.communicate(timeout=240)
    assert refused.returncode == 1
    assert output.count(f"train: error: {tmp_path}/run already holds a run") == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_memory_is_the_gpus(tmp_path, train, shards):
    said = announced(train, *flags(shards, tmp_path / "run", "train2d", "--device", "cuda"))
    assert 0 < bytes_of(said["GPU memory"]) < torch.cuda.get_device_properties(0).total_memory


def test_a_run_that_is_at_its_end_has_nothing_to_do(tmp_path, train, shards):
    arguments = flags(shards, tmp_path / "run", "train3d", "--max-steps", "2", "--resume")
    with contextlib.chdir(tmp_path):
        assert train(*arguments)[0] == 0
        assert announced(train, *arguments)["to do"] == "0 steps, 0 validations"
