"""Who may write in a run folder, and what a run that cannot go on there is told."""

import shutil
import time

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.checkpoint.checkpointer import CheckpointConfig, Checkpointer
from engine.config import parse_train
from engine.distributed import Process
from engine.training.run_folder import check_content, claimed
from engine.training.trainer import Trainer
from loaders import InputError
from loaders.errors import Failure
from tests.checkpoint_factory import make_checkpoint
from tests.engine.training_runs import finish, flags, read_metrics, run, same, start, weights
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("folder") / "shards", {"train": 18, "val": 5}, image_size=64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shards):
    """Return the folder of a run of four steps."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, *flags(shards, run_dir, "train3d", "--max-steps", "4", "--checkpoint.every", "2")) == 0
    return run_dir


@pytest.fixture
def copied(tmp_path, trained):
    return shutil.copytree(trained, tmp_path / "copied")


@pytest.fixture
def started(monkeypatch, capsys, shards):
    """Return a function that trains and returns the exit status and what was said."""

    def begin(run_dir, *more, stage="train3d"):
        return run(monkeypatch, *flags(shards, run_dir, stage, *more)), capsys.readouterr().err.splitlines()

    return begin


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_is_written_is_refused(tmp_path, started, resume):
    arguments = (tmp_path / "run", "--max-steps", "2", *["--resume"] * resume)
    with claimed(tmp_path / "run", ALONE, resume=False):
        assert started(*arguments) == (
            2,
            [f"train: error: another run is writing {tmp_path}/run: wait for it, or give another --run-dir"],
        )
    assert started(*arguments)[0] == 0


def test_a_lock_ends_with_its_process(tmp_path, monkeypatch, shards):
    run_dir = tmp_path / "run"
    process = start(flags(shards, run_dir, "train3d", "--epochs", "100000"))
    while not read_metrics(run_dir / "metrics.jsonl"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    with pytest.raises(InputError, match="another run is writing"), claimed(run_dir, ALONE, resume=True):
        pass
    process.kill()
    process.wait()
    with claimed(run_dir, ALONE, resume=True):
        pass


def test_all_processes_learn_of_a_refusal_and_none_resumes_by_itself(tmp_path, shards, copied):
    """A restart continues what the same torchrun began, not what it found."""
    before = content(copied)
    process = start(flags(shards, copied, "train3d", "--data.batch-size", "2"), 2, ("--max-restarts", "1"))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert output.count("train: error: ") == output.count(f"train: error: {copied} already holds a run") == 4, output
    assert content(copied).items() >= before.items()


def refuse(folder, *, resume):
    before = content(folder)
    with pytest.raises(InputError) as refusal:
        check_content(folder, resume=resume)
    assert content(folder) == before
    return str(refusal.value)


@pytest.mark.parametrize("left", [["best.pt"], ["best.pt", "config.yaml", "metrics.jsonl"]])
def test_a_best_checkpoint_alone_is_no_place_to_go_on_from(tmp_path, copied, left):
    for path in set(copied.iterdir()) - {copied / name for name in left}:
        path.unlink()
    said = refuse(copied, resume=True)
    assert f"copy {copied}/best.pt to {copied}/last.pt" in said
    assert f"another --run-dir with --load {copied}/best.pt" in said
    assert "already holds a run" in refuse(copied, resume=False)


def test_a_log_alone_is_not_cut(copied):
    for path in copied.glob("*.pt"):
        path.unlink()
    assert "has no last.pt to continue from, but a log" in refuse(copied, resume=True)
    (copied / "config.yaml").unlink()
    assert "already holds a run" in refuse(copied, resume=False)


def test_the_best_one_copied_goes_on(started, trained, copied):
    for path in copied.glob("last*.pt"):
        path.unlink()
    shutil.copy(copied / "best.pt", copied / "last.pt")
    assert started(copied, "--max-steps", "4", "--checkpoint.every", "2", "--resume")[0] == 0
    assert same(weights(trained), weights(copied))


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_folder_begins(tmp_path, resume):
    check_content(tmp_path, resume=resume)
    (tmp_path / "metrics.jsonl").touch()  # as a run leaves it that was killed before its first checkpoint
    check_content(tmp_path, resume=resume)


def test_a_checkpoint_comes_before_anything_else(tmp_path, monkeypatch, shards):
    """Whatever moment a run is killed at, it goes on: the log is never without a checkpoint."""
    trainer = Trainer(parse_train(flags(shards, tmp_path / "run", "train3d")), ALONE)

    def killed(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr(trainer.log, "scalars", killed)
    with pytest.raises(RuntimeError, match="killed"):
        trainer.fit()
    assert checkpoint.load(tmp_path / "run/last.pt").step == 0
    trainer.close()
    check_content(tmp_path / "run", resume=True)


def test_weights_alone_are_no_run(started, copied):
    make_checkpoint(copied / "last.pt", "train3d")
    status, (line,) = started(copied, "--resume")
    assert status == 2
    assert f"not the state of a run: begin a new one: another --run-dir with --load {copied}/last.pt" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--optim.name", "sgd"], "was trained by adam or adamw, whose state is of no use to sgd"),
        (["--data.image-size", "128"], "was trained with data.image_size 64, not 128"),
    ],
)
def test_what_cannot_change_is_one_line(started, copied, more, said):
    before = content(copied)
    status, (line,) = started(copied, "--resume", *more)
    assert status == 2
    assert said in line
    assert content(copied) == before


def test_another_backbone_is_one_line(tmp_path, started):
    assert started(tmp_path / "run", "--max-steps", "1", stage="train2d")[0] == 0
    status, (line,) = started(tmp_path / "run", "--resume", "--model.backbone", "resnet34", stage="train2d")
    assert status == 2
    assert "was trained with model.backbone resnet18, not resnet34" in line


def test_what_changed_is_logged_and_obeyed(started, copied):
    more = ["--max-steps", "6", "--checkpoint.every", "2", "--optim.name", "adam", "--optim.weight-decay", "0.5"]
    status, said = started(copied, "--resume", *more)
    assert status == 0
    assert [line.partition(" ")[2] for line in said if " resumed: " in line] == [
        "resumed: optim.name is adam, was adamw up to step 4",
        "resumed: optim.weight_decay is 0.5, was 0.0 up to step 4",
        "resumed: max_steps is 6, was 4 up to step 4",
    ]
    groups = checkpoint.load(copied / "last.pt").resume_state.optimizer["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert not any(group["decoupled_weight_decay"] for group in groups)


def test_another_precision_resumes(shards, copied):
    for precision in ("fp16", "fp32", "fp16"):
        trainer = Trainer(parse_train(flags(shards, copied, "train3d", "--resume", "--precision", precision)), ALONE)
        assert trainer.step == 4
        trainer.save()
        trainer.close()


@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_what_is_not_finite_is_never_written(shards, copied, where):
    trainer = Trainer(parse_train(flags(shards, copied, "train3d", "--resume")), ALONE)
    weight = next(trainer.learner.model.parameters())
    corrupted = weight.data if where == "weights" else trainer.learner.optimizer.state[weight]["exp_avg_sq"]
    corrupted[0] = torch.inf
    trainer.step = 5
    with pytest.raises(Failure, match=r"not finite at step 5; continue from .*last.pt by --resume with a lower"):
        trainer.save()
    trainer.close()
    assert checkpoint.load(copied / "last.pt").step == 4


def test_a_checkpoint_from_just_before_the_loss_is_not_advised(copied):
    checkpointer = Checkpointer(copied, CheckpointConfig())
    checkpointer.saved_step = 4
    assert "last.pt by --resume" in checkpointer.remedy(6)
    assert "last.pt is from just before: remove it" in checkpointer.remedy(5)
    (copied / "last-1.pt").unlink()
    assert checkpointer.remedy(5).startswith("begin a new run")


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMI_SIZE": "4"}, True),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16"}, False),  # a script that sbatch runs
    ],
)
def test_a_launcher_that_is_not_torchrun_is_noticed(tmp_path, monkeypatch, started, variables, refused):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status, said = started(tmp_path / "run", "--max-steps", "1")
    assert status == (2 if refused else 0)
    assert any("srun --ntasks-per-node=1 torchrun" in line for line in said) == refused
    assert (tmp_path / "run").exists() != refused


def test_srun_of_torchrun_is_as_it_should_be(tmp_path, monkeypatch, shards):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.setenv(name, "2")
    finish(start(flags(shards, tmp_path / "run", "train3d", "--max-steps", "1"), processes=1))
