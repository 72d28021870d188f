"""Steps that fail, averaged weights, profiles and compiled steps."""

import contextlib
import gzip
import math

import pytest
import torch
from torch._dynamo.utils import counters

from engine.checkpoint import format as checkpoint
from engine.config import parse_train
from engine.device import cxx_compiler
from engine.distributed import Process
from engine.stages import STAGES, ModelConfig
from engine.training.learner import Objective
from engine.training.trainer import Trainer
from loaders import InputError, PoseBatch, ShardSet
from tests.engine.training_runs import flags, read_metrics, run, same, weights
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

CPU = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("learner") / "shards", {"train": 18, "val": 5}, image_size=64)


@pytest.fixture
def trainer(shards, tmp_path):
    """Return a function that builds a trainer of train3d, closed in the end."""
    with contextlib.ExitStack() as opened:  # the last one first: each hands back the signals that it found

        def build(*more, name="run"):
            one = Trainer(parse_train(flags(shards, tmp_path / name, "train3d", *more)), CPU)
            opened.callback(one.close)
            return one

        yield build


def state(trainer):
    return {name: tensor.clone() for name, tensor in trainer.learner.model.state_dict().items()}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("max_grad_norm", ["None", "1.0"])
def test_an_overflow_skips_the_step_and_halves_the_scale(trainer, name, max_grad_norm):
    one = trainer(
        "--precision", "fp16", "--optim.name", name, "--optim.max-grad-norm", max_grad_norm, "--log-every", "1"
    )
    batches = iter(one.loader)
    one.train_step(next(batches))
    before, scale = state(one), one.learner.scaler.get_scale()
    bias = one.learner.model.b1_fc3.bias
    hook = bias.register_hook(lambda gradient: torch.full_like(gradient, math.inf))
    one.train_step(next(batches))
    hook.remove()
    assert same(before, state(one))
    assert one.learner.scaler.get_scale() == scale / 2
    # an overflow is no reason to stop
    one.train_step(next(batches))
    assert not same(before, state(one))
    entries = read_metrics(one.config.run_dir / "metrics.jsonl")
    assert ["train/gradient_norm" in entry for entry in entries] == [True, False, True]
    assert entries[-1]["train/gradient_scale"] == scale / 2


def test_a_loss_that_is_no_number_names_step_samples_and_remedy(shards, tmp_path, monkeypatch, capsys):
    original = Trainer.train_step

    def corrupt(self, batch):
        if self.step == 2:  # the third step
            batch.joints_3d[1, 3] = math.nan
            corrupt.keys = [self.loader.shard_set.key(i) for i in batch.index.tolist()]
        original(self, batch)

    monkeypatch.setattr(Trainer, "train_step", corrupt)
    arguments = flags(shards, tmp_path / "run", "train3d", "--epochs", "4", "--log-every", "5")
    assert run(monkeypatch, *arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "not finite at step 3, process 0, samples" in message
    assert all(key in message for key in corrupt.keys)
    assert "--resume with a lower optim.lr" in message
    assert set(corrupt.keys) <= {ShardSet(shards, "train").key(i) for i in range(18)}
    assert checkpoint.load(tmp_path / "run/last.pt").step == 0  # the non-finite weights were not kept


def test_averaged_weights_follow_and_are_what_is_kept(shards, tmp_path, monkeypatch):
    more = ("--optim.ema", "0.9", "--max-steps", "4")
    expected = None
    original = Trainer.train_step

    def follow(self, batch):
        nonlocal expected
        original(self, batch)
        now = state(self)
        # the first update copies
        expected = (
            now if expected is None else {k: torch.lerp(expected[k].float(), v.float(), 0.1) for k, v in now.items()}
        )

    monkeypatch.setattr(Trainer, "train_step", follow)
    assert run(monkeypatch, *flags(shards, tmp_path / "whole", "train3d", *more)) == 0
    for key, value in weights(tmp_path / "whole").items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key.removeprefix("lifting_net.")])
    monkeypatch.undo()
    raw = checkpoint.load(tmp_path / "whole/last.pt").resume_state.training_weights["lifting_net"]["fc1.weight"]
    assert not torch.equal(raw, weights(tmp_path / "whole")["lifting_net.fc1.weight"])
    for steps in ("2", "4"):  # interrupted in between, the same
        arguments = flags(shards, tmp_path / "parts", "train3d", "--optim.ema", "0.9", "--max-steps", steps, "--resume")
        arguments += ["--optim.schedule", "constant"]
        assert run(monkeypatch, *arguments) == 0
    arguments = flags(shards, tmp_path / "once", "train3d", *more, "--optim.schedule", "constant")
    assert run(monkeypatch, *arguments) == 0
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "once"))


def test_a_run_too_short_for_a_profile_warns(shards, tmp_path, monkeypatch, capsys):
    arguments = flags(shards, tmp_path / "run", "train3d", "--max-steps", "6", "--epochs", "9", "--profile")
    assert run(monkeypatch, *arguments) == 0
    assert "no profile.json.gz" in capsys.readouterr().err


def test_a_profile_is_written_with_named_ranges(shards, tmp_path, monkeypatch):
    arguments = flags(shards, tmp_path / "run", "train3d", "--max-steps", "14", "--epochs", "9", "--profile")
    assert run(monkeypatch, *arguments) == 0
    trace = gzip.decompress((tmp_path / "run/profile.json.gz").read_bytes()).decode()
    assert all(f'"{name}"' in trace for name in ("forward", "backward", "optimizer"))


@pytest.mark.parametrize("name", ["distributed.sync-batchnorm", "optim.apex"])
def test_what_needs_a_gpu_is_refused_on_a_cpu(shards, tmp_path, monkeypatch, capsys, name):
    assert run(monkeypatch, *flags(shards, tmp_path / "run", "train2d", f"--{name}")) == 2
    assert f"{name.replace('-', '_')} works on GPUs only" in capsys.readouterr().err


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_network_and_loss_are_one_graph(stage):
    torch.manual_seed(0)
    joints = 64 * torch.rand(2, 16, 5)
    batch = PoseBatch(
        image=torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        joints_2d=joints[..., :2],
        joints_3d=joints[..., 2:],
        meta=torch.zeros(2, 4, dtype=torch.int32),
        index=torch.arange(2),
    )
    built = STAGES[stage](ModelConfig(backbone="resnet18"), 64)
    objective = Objective(built, built.build_model())
    objective.eval()  # or statistics move between the two
    with torch.no_grad():
        _, expected = objective(batch)
        # "eager" only traces; fullgraph raises where the graph breaks
        _, terms = torch.compile(objective, backend="eager", fullgraph=True)(batch)
    assert terms == expected


def test_no_step_copies_constants_to_the_device(trainer):
    one = trainer()
    assert {buffer.device for buffer in one.stage.buffers()} == {CPU.device}
    assert set(dict(one.stage.to("meta").named_buffers())) == {"encoder.cells", "pose_loss.starts", "pose_loss.ends"}
    with pytest.raises(RuntimeError, match="meta"):  # all constants are buffers: none follow the batch's device
        one.train_step(next(iter(one.loader)))


@pytest.mark.skipif(cxx_compiler()[1] is None, reason="no C++ compiler")
def test_compiled_steps_equal_plain_ones(trainer):
    plain = trainer("--optim.name", "sgd")
    compiled = trainer("--optim.name", "sgd", "--compile", "default", name="compiled")
    counters.clear()
    assert same(state(plain), state(compiled))
    for one in (plain, compiled):
        one.train_step(next(iter(one.loader)))
    a, b = state(plain), state(compiled)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)
    traced = counters["stats"]["unique_graphs"]
    assert traced > 0 and not counters["graph_break"]
    assert torch.compiler.config.cache_key_tag == torch.backends.cpu.get_cpu_capability()


def test_compiling_without_a_compiler_is_refused_before_the_first_step(trainer, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="compile is default, and there is no compiler no-such-compiler: apt install"):
        trainer("--compile", "default")
