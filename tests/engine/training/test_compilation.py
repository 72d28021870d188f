"""Which mode of torch.compile a run takes, and what it cannot be combined with."""

from pathlib import Path

import pytest
import torch
import yaml

from engine.config import TrainConfig
from engine.distributed import Process
from engine.optimizer import OptimConfig
from engine.training import compilation
from engine.training.compilation import choose_mode
from engine.training.trainer import Trainer
from loaders import DataConfig, InputError, errors
from tests.shard_factory import make_shard_set

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def config(compile="auto", stage="train2d", batch_size=8, parts=1):
    return TrainConfig(
        stage=stage,
        run_dir=Path("run"),
        data=DataConfig(shards=Path("shards"), batch_size=batch_size),
        optim=OptimConfig(grad_accum_steps=parts),
        compile=compile,
    )


@pytest.fixture
def machine(monkeypatch):
    """Return a function that says what the machine lacks to compile; at first nothing."""
    monkeypatch.setattr(errors, "_WARNED", set())

    def lack(fault):
        monkeypatch.setattr(compilation, "compiler_fault", lambda device: fault)

    lack("")
    return lack


def test_auto_follows_stage_and_device(machine):
    chosen = {stage: choose_mode(config(stage=stage), GPU) for stage in ("train2d", "train3d", "finetune")}
    assert chosen == {"train2d": "default", "train3d": "reduce-overhead", "finetune": "default"}
    assert choose_mode(config(stage="train3d", parts=2), GPU) == "default"
    assert choose_mode(config(stage="train3d"), CPU) == "off"
    assert choose_mode(config("off"), GPU) == "off"


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_recorded_graphs_are_not_combined_with_gradient_accumulation(machine, mode):
    with pytest.raises(InputError, match=f"^compile is {mode}, and optim.grad_accum_steps is 2: .*--compile default"):
        choose_mode(config(mode, parts=2), GPU)
    assert choose_mode(config(mode), GPU) == mode


def test_compiled_parts_have_one_size(machine, caplog):
    assert choose_mode(config("default", batch_size=9, parts=3), GPU) == "default"
    with pytest.raises(InputError, match=r"data.batch_size 10 .* optim.grad_accum_steps 3: .* 9 or 12"):
        choose_mode(config("default", batch_size=10, parts=3), CPU)
    assert choose_mode(config(batch_size=10, parts=3), GPU) == "off"
    assert caplog.messages[0].startswith("training without torch.compile, which is slower: data.batch_size 10 is no")


def test_a_machine_without_a_compiler(machine, caplog):
    machine("there is no compiler gcc: apt install gcc")
    assert choose_mode(config(), GPU) == "off"
    assert caplog.messages == [
        "training without torch.compile, which is slower: there is no compiler gcc: apt install gcc"
    ]
    with pytest.raises(InputError, match=r"compile is default, and there is no compiler gcc: .*or take --compile off"):
        choose_mode(config("default"), GPU)


@pytest.mark.slow
def test_a_run_records_what_auto_chose_and_refuses_before_its_first_step(tmp_path, monkeypatch):
    shards = make_shard_set(tmp_path / "shards", {"train": 8, "val": 2})
    flags = {"stage": "train3d", "data": DataConfig(shards=shards, batch_size=4), "run_dir": tmp_path / "run"}
    Trainer(TrainConfig(**flags), Process(0, 1, CPU)).close()
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["compile"] == "off"
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="compile is default, and there is no compiler no-such-compiler: apt install"):
        Trainer(TrainConfig(**flags, compile="default"), Process(0, 1, CPU))
