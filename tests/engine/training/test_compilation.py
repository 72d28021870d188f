"""Which mode of torch.compile a run takes, and what it cannot be combined with."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from engine.config import TrainConfig
from engine.distributed import DistributedConfig, Process
from engine.optimizer import OptimConfig
from engine.training import compilation
from engine.training.compilation import choose_graph, choose_mode
from engine.training.trainer import Trainer
from loaders import DataConfig, InputError, errors
from tests.shard_factory import make_shard_set

CPU, GPU = (Process(0, 1, torch.device(name)) for name in ("cpu", "cuda:0"))
TWO = Process(0, 2, GPU.device)


def config(compile="auto", stage="train2d", batch_size=8, parts=1, **flags):
    return TrainConfig(
        stage=stage,
        run_dir=Path("run"),
        data=DataConfig(shards=Path("shards"), batch_size=batch_size),
        optim=OptimConfig(grad_accum_steps=parts),
        compile=compile,
        **flags,
    )


@pytest.fixture
def machine(monkeypatch):
    """Return a function that says what the machine lacks to compile; at first nothing."""
    monkeypatch.setattr(errors, "_WARNED", set())

    def lack(fault):
        monkeypatch.setattr(compilation, "compiler_fault", lambda device: fault)
        monkeypatch.setattr(compilation, "has_kernels", lambda device: not fault)

    lack("")
    return lack


def chosen(process, **flags):
    """Return mode and graph as a run takes them."""
    made = config(**flags)
    made = dataclasses.replace(made, compile=choose_mode(made, process))
    return made.compile, choose_graph(made, process)


def test_auto_follows_stage_device_and_processes(machine):
    found = {stage: chosen(GPU, stage=stage) for stage in ("train2d", "train3d", "finetune")}
    assert found == {"train2d": ("off", True), "train3d": ("default", True), "finetune": ("off", True)}
    assert chosen(TWO, stage="train2d") == ("off", False)
    assert chosen(TWO, stage="train3d") == ("reduce-overhead", False)
    assert chosen(GPU, stage="train3d", parts=2) == ("default", False)
    assert chosen(GPU, stage="train3d", cuda_graph="never") == ("reduce-overhead", False)
    assert chosen(CPU, stage="train3d") == ("off", False)
    assert chosen(GPU, compile="reduce-overhead") == ("reduce-overhead", False)
    # a norm over all processes has no kernels of ours
    assert chosen(TWO, distributed=DistributedConfig(sync_batchnorm=True))[0] == "default"


@pytest.mark.parametrize(
    ("process", "flags", "reason"),
    [
        (CPU, {}, "graphs are for GPUs"),
        (TWO, {}, "start one process"),
        (GPU, {"parts": 2}, "take --optim.grad-accum-steps 1"),
        (GPU, {"compile": "reduce-overhead"}, "take --compile default"),
    ],
)
def test_a_graph_that_cannot_be_recorded_is_refused(machine, process, flags, reason):
    with pytest.raises(InputError, match=f"^cuda_graph is always, and .*{reason}, or leave --cuda-graph out"):
        chosen(process, cuda_graph="always", **flags)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_recorded_graphs_are_not_combined_with_gradient_accumulation(machine, mode):
    with pytest.raises(InputError, match=f"^compile is {mode}, and optim.grad_accum_steps is 2: .*--compile default"):
        choose_mode(config(mode, parts=2), GPU)
    assert choose_mode(config(mode), GPU) == mode


def test_compiled_parts_have_one_size(machine, caplog):
    assert choose_mode(config("default", batch_size=9, parts=3), GPU) == "default"
    with pytest.raises(InputError, match=r"data.batch_size 10 .* optim.grad_accum_steps 3: .* 9 or 12"):
        choose_mode(config("default", batch_size=10, parts=3), CPU)
    assert choose_mode(config(stage="train3d", batch_size=10, parts=3), GPU) == "off"
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
    Trainer(TrainConfig(**flags), CPU).close()
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["compile"] == "off"
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="compile is default, and there is no compiler no-such-compiler: apt install"):
        Trainer(TrainConfig(**flags, compile="default"), CPU)
