"""Steps that fail, averaged weights, profiles and compiled steps."""

import contextlib
import copy
import gzip
import math
from collections import Counter

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from engine.checkpoint import format as checkpoint
from engine.config import parse_train
from engine.device import cxx_compiler
from engine.distributed import Process
from engine.precision import Precision
from engine.stages import STAGES, ModelConfig
from engine.training.learner import Objective
from engine.training.trainer import Trainer
from loaders import PoseBatch, ShardSet
from models.camera import IN_IMAGE
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
        image=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        joints_2d=joints[..., :2],
        joints_3d=joints[..., 2:],
        visible=torch.full((2, 16), IN_IMAGE, dtype=torch.uint8),
        meta=torch.zeros(2, 4, dtype=torch.int32),
        index=torch.arange(2),
    )
    built = STAGES[stage](ModelConfig(backbone="resnet18"), 64)
    plain = Objective(built, built.build_model())
    traced = copy.deepcopy(plain)
    # traces both passes and compiles nothing; fullgraph raises where the graph breaks
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    losses = []
    for objective in (plain, compiled):
        with Precision("bf16", CPU.device).autocast():
            _, terms = objective(batch)
        losses.append(sum(terms.values()))
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0])
    for parameter, expected in zip(traced.parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None) == (not parameter.requires_grad)
        if expected.grad is not None:  # bf16 rounds in another order
            scale = float(expected.grad.abs().max())
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=0.05, atol=0.05 * scale)
    for buffer, expected in zip(traced.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected)


def test_no_step_copies_constants_to_the_device(trainer):
    one = trainer()
    assert {buffer.device for buffer in one.stage.buffers()} == {CPU.device}
    assert set(dict(one.stage.to("meta").named_buffers())) == {"encoder.cells", "pose_loss.starts", "pose_loss.ends"}
    with pytest.raises(RuntimeError, match="meta"):  # all constants are buffers: none follow the batch's device
        one.train_step(next(iter(one.loader)))


class Operators(TorchDispatchMode):
    """Counts the calls of torch's operators by name."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.name()] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_step_waits_for_the_device(trainer, precision):
    one = trainer("--precision", precision, "--optim.ema", "0.9", "--optim.max-grad-norm", "1")
    batches = iter(one.loader)
    one.update(next(batches))  # builds what later steps have
    batch = next(batches)
    with Operators() as operators:
        one.update(batch)
    assert operators.calls["aten::_foreach_lerp_.Scalar"] == 1
    assert not [name for name in operators.calls if "_local_scalar_dense" in name or "nonzero" in name]


def test_losses_outlive_the_memory_that_a_recorded_graph_writes_to(trainer):
    one = trainer()
    objective, before = one.learner._objective, []

    def replay(batch):
        for term in before:
            term.fill_(math.nan)
        prediction, terms = objective(batch)
        before[:] = [term.detach() for term in terms.values()]
        return prediction, terms

    one.learner._objective = replay
    batches = iter(one.loader)
    for _ in range(3):
        one.train_step(next(batches))
    assert len(one.means.read(3, str)) == 5  # and finite, or this raises


@pytest.mark.skipif(cxx_compiler()[1] is None, reason="no C++ compiler")
def test_compiled_steps_equal_plain_ones(trainer, monkeypatch):
    begun = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    plain = trainer("--optim.name", "sgd")
    compiled = trainer("--optim.name", "sgd", "--compile", "reduce-overhead", name="compiled")  # no graphs on a CPU
    counters.clear()
    assert same(state(plain), state(compiled))
    for one in (plain, compiled):
        one.train_step(next(iter(one.loader)))
    a, b = state(plain), state(compiled)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == len(begun) == 1
    assert not counters["graph_break"]
    assert torch.compiler.config.cache_key_tag == torch.backends.cpu.get_cpu_capability()
