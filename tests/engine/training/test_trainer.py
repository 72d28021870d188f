"""When a run saves, and when it waits for the device."""

import dataclasses
import itertools
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import engine.training.trainer
from engine.checkpoint import format as checkpoint
from engine.checkpoint import torch_file
from engine.config import parse_train
from engine.distributed import Process
from engine.training.trainer import Trainer
from tests.engine.training_runs import flags, same, weights
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(tmp_path_factory.mktemp("trainer") / "shards", {"train": 32, "val": 4}, image_size=64)


@pytest.fixture
def build(tmp_path, shards):
    """Return a function that makes the trainer of a run of epochs of eight steps."""
    made = []

    def trainer(*more):
        made.append(Trainer(parse_train(flags(shards, tmp_path / "run", "train3d", *more)), alone()))
        return made[-1]

    yield trainer
    for one in made:
        one.close()


def alone():
    return Process(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("metrics", "best"), [((9, 8, 7, 6, 5, 4), 40), ((9, 8, 3, 6, 5, 4), 16), ((3, 4, 5, 6, 7, 8), 0)]
)
def test_short_epochs_save_at_the_ends_and_lose_no_best(tmp_path, monkeypatch, build, metrics, best):
    """40 steps, 8 an epoch: two checkpoints, and a file more if neither is the best."""
    validate, write_file = engine.training.trainer.validate, torch_file.write
    values, files, then = iter(metrics), [], {}

    def prescribed(*given):
        result = validate(*given)
        then[trainer.step] = {k: v.clone() for k, v in trainer.learner.weights["lifting_net"].items()}
        return dataclasses.replace(result, metrics=result.metrics | {trainer.stage.metric: next(values)})

    def note(path, content):
        files.append(path.name.partition(".pt")[0] + ".pt")
        write_file(path, content)

    monkeypatch.setattr(engine.training.trainer, "validate", prescribed)
    monkeypatch.setattr(torch_file, "write", note)
    trainer = build("--epochs", "5")
    assert trainer.fit() == 0
    assert trainer.step == 40
    assert files == ["last.pt", *["best.pt"] * (best != 40), "last.pt"]
    run_dir = tmp_path / "run"
    assert checkpoint.load(run_dir / "last.pt").step == 40
    assert checkpoint.load(run_dir / "best.pt").step == best
    for name, step in (("last.pt", 40), ("best.pt", best)):
        found = {key.removeprefix("lifting_net."): value for key, value in weights(run_dir, name).items()}
        assert same(found, then[step])


def test_each_validation_saves_where_epochs_are_long(tmp_path, monkeypatch, build):
    trainer = build("--epochs", "3", "--checkpoint.minutes", "1000", "--checkpoint.keep", "9")
    now, train_epoch = time.monotonic, trainer.train_epoch
    hours = itertools.count(1)

    def long_epoch():
        passed = 2 * 3600 * next(hours)
        monkeypatch.setattr(time, "monotonic", lambda: now() + passed)
        return train_epoch()

    trainer.train_epoch = long_epoch
    trainer.fit()
    trainer.close()
    assert sorted(checkpoint.load(path).step for path in (tmp_path / "run").glob("last*.pt")) == [0, 8, 16, 24]


class Reads(TorchDispatchMode):
    """Counts what waits for a device, were the tensors on one: numbers that are read, copies in the host's memory."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal")
        return operator(*args, **(kwargs or {}))


def counting(reads, method):
    def counted(*given, **more):
        reads.count += 1
        return method(*given, **more)

    return counted


def test_only_steps_that_are_logged_read_the_device(monkeypatch, build):
    trainer = build("--log-every", "4", "--optim.max-grad-norm", "1")
    step = trainer.learner.optimizer.step

    def unseen(*given):  # on a CPU Adam reads the numbers of its steps, which lie on the host
        with _disable_current_modes():
            return step(*given)

    trainer.learner.optimizer.step = unseen
    reads, counts = Reads(), []
    for name in ("tolist", "cpu", "numpy"):  # which need no operation where tensors are on the host already
        monkeypatch.setattr(torch.Tensor, name, counting(reads, getattr(torch.Tensor, name)))
    for batch in trainer.loader:
        reads.count = 0
        with reads:
            trainer.train_step(batch)
        counts.append(reads.count)
    assert [count > 0 for count in counts] == [False, False, False, True] * 2
