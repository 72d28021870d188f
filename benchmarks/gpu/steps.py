"""The steps of the GPU suite, the most valuable first."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final
from xml.etree import ElementTree

import torch

from benchmarks.gpu.profiled import profile_step
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.work import count
from benchmarks.harness import ROOT, Length, Steps, not_installed, run_steps
from benchmarks.peers.common import endless
from benchmarks.peers.dali_reader import dali_reader
from benchmarks.peers.reference_training import reference_training
from benchmarks.peers.reference_way import RECIPE_BATCH
from benchmarks.timed_trainer import train_in_turn
from engine.checkpoint.checkpointer import CheckpointConfig
from engine.config import CompileMode, TrainConfig
from engine.distributed import join_processes
from engine.optimizer import OptimConfig
from engine.precision import PrecisionName
from engine.stages import ModelConfig, StageName
from engine.training.trainer import Trainer
from loaders import AugmentConfig, DataConfig, build_loader
from loaders.errors import Failure
from loaders.system.cores import available_cores

Figures = dict[str, Any]
"""What a step found: numbers by name, each with its unit where it has one."""
GPU_TESTS: Final = (
    "tests/loaders/dali/test_gpu.py",
    "tests/models/test_fused_norm.py",
    "tests/engine/training/test_step_graph.py",
)
_NEVER: Final = 10**6
_THREADS: Final = (4, 8)
_LOADS: Final = (0.0, 0.65, 0.9, 1.0)
_ON_THE_GPU: Final = tuple((("decode_on", "gpu"), ("hw_decoder_load", load)) for load in (0.0, 1.0))


@dataclass(frozen=True)
class Step:
    """One measurement or check."""

    name: str
    seconds: float
    """How long it takes on an H100; left out if so much is not left."""
    run: Callable[[Setting], Figures]
    needs_gpu: bool = False

    def reason_absent(self, setting: Setting) -> str:
        """Return why it cannot run here; empty if it can."""
        return "no GPU" if self.needs_gpu and not setting.gpu else ""


@dataclass(frozen=True)
class Way:
    """How a stage is trained."""

    stage: StageName
    larger: bool = False
    """The larger of the two backbones."""
    precision: PrecisionName = "bf16"
    compile: CompileMode = "off"
    graph: bool = False
    """Record the step as a CUDA graph."""
    batch_size: int = 0
    """0 takes the setting's (samples)."""
    deterministic: bool = False
    decoding: tuple[tuple[str, Any], ...] = ()
    """Flags of the loader, beside its own choice."""

    @property
    def name(self) -> str:
        """All that distinguishes it."""
        words = [
            self.stage,
            *(["larger backbone"] if self.larger else []),
            self.precision,
            "eager" if self.compile == "off" else self.compile,
            *(["graph"] if self.graph else []),
            *([f"batch {self.batch_size}"] if self.batch_size else []),
            *(["deterministic"] if self.deterministic else []),
            *(f"{name} {value}" for name, value in self.decoding),
        ]
        return " ".join(words)

    def size(self, setting: Setting) -> int:
        """Return the samples of a batch; without images it can be larger."""
        return self.batch_size or setting.batch_size * (2 if self.stage == "train3d" else 1)

    def config(self, setting: Setting, **more: Any) -> TrainConfig:
        """Return it as a configuration of the trainer."""
        common: dict[str, Any] = {
            "run_dir": Path(),
            "epochs": _NEVER,
            "validate_every": _NEVER,
            "checkpoint": CheckpointConfig(every=_NEVER, minutes=_NEVER),
            "device": setting.device.type,
        }
        return TrainConfig(
            stage=self.stage,
            data=setting.loading(
                labels_alone=self.stage == "train3d", batch_size=self.size(setting), **dict(self.decoding)
            ),
            model=ModelConfig(backbone=setting.backbones[self.larger]),
            precision=self.precision if setting.gpu else "fp32",
            compile=self.compile if setting.gpu else "off",
            cuda_graph="always" if self.graph and setting.gpu else "never",
            deterministic=self.deterministic,
            **{**common, **more},
        )


def steps() -> list[Step]:
    """Return all steps in the order of their worth."""
    eager2d, eager3d = Way("train2d"), Way("train3d")
    # what "auto" takes on a GPU
    train2d = dataclasses.replace(eager2d, graph=True)
    train3d = dataclasses.replace(eager3d, compile="default", graph=True)
    larger = dataclasses.replace(train2d, larger=True)
    finetune = Way("finetune", graph=True)
    return [
        Step("ceilings", 5, ceilings),
        Step("GPU graph against CPU graph", 90, agreement, needs_gpu=True),
        *_loading(),
        _training(train2d, 20),
        _training(larger, 25, needs_gpu=True),
        _training(train3d, 30, needs_gpu=True),
        _training(finetune, 20, needs_gpu=True),
        _profile(train2d, 10),
        _profile(train3d, 25, needs_gpu=True),
        *(_falling(way, 12) for way in (train2d, train3d, finetune)),
        _falling(dataclasses.replace(finetune, precision="fp16"), 12, needs_gpu=True),
        *(_training(dataclasses.replace(train2d, decoding=flags), 15, needs_gpu=True) for flags in _ON_THE_GPU),
        *(_training(dataclasses.replace(train2d, batch_size=size), 15, needs_gpu=True) for size in (64, 256, 384)),
        Step("reference way: train3d", 25, partial(reference, stage="train3d")),
        Step("reference way: train2d", 25, partial(reference, stage="train2d")),
        _training(dataclasses.replace(train2d, precision="fp16"), 20, needs_gpu=True),
        _training(eager2d, 20, needs_gpu=True),
        _training(eager3d, 15),
        _training(dataclasses.replace(eager3d, compile="reduce-overhead"), 25, needs_gpu=True),
        _training(dataclasses.replace(eager2d, compile="default"), 55, needs_gpu=True),
        *_loading_by_engine_and_threads(),
        _training(dataclasses.replace(train2d, deterministic=True), 20, needs_gpu=True),
    ]


def _training(way: Way, seconds: float, *, needs_gpu: bool = False) -> Step:
    return Step(f"training: {way.name}", seconds, partial(training, way=way), needs_gpu)


def _profile(way: Way, seconds: float, *, needs_gpu: bool = False) -> Step:
    return Step(f"profile: {way.name}", seconds, partial(profiled, way=way), needs_gpu)


def _falling(way: Way, seconds: float, *, needs_gpu: bool = False) -> Step:
    return Step(f"loss falls: {way.name}", seconds, partial(falling, way=way), needs_gpu)


def _load(name: str, *, needs_gpu: bool = False, **flags: Any) -> Step:
    return Step(f"loading: {name}", 6, partial(loading, **flags), needs_gpu)


def _loading() -> list[Step]:
    return [
        _load("DALI, augmented", backend="dali"),
        _load("DALI, not augmented", backend="dali", augment=AugmentConfig()),
        Step("loading: DALI's reader, not augmented", 6, dalis_reader),
        _load("DALI, raw, augmented", backend="dali", raw=True),
        _load("torch backend, augmented", backend="torch"),
        _load("torch backend, raw, augmented", backend="torch", raw=True),
    ]


def _loading_by_engine_and_threads() -> list[Step]:
    return [
        *(
            _load(
                f"DALI, augmented, on the GPU, hw_decoder_load {load:g}",
                needs_gpu=True,
                backend="dali",
                decode_on="gpu",
                hw_decoder_load=load,
            )
            for load in _LOADS
        ),
        *(
            _load(f"DALI, augmented, {threads} threads", needs_gpu=True, backend="dali", threads=threads)
            for threads in _THREADS
        ),
    ]


def ceilings(setting: Setting) -> Figures:
    """Measure what the device can do: a large matrix product of random numbers, a large copy within its memory."""
    side, numbers = (8192, 2**30) if setting.gpu else (256, 2**20)
    dtype = torch.bfloat16 if setting.gpu else torch.float32
    a, b = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    source = torch.randn(numbers, device=setting.device)
    target = torch.empty_like(source)
    product = _best(setting, lambda: torch.mm(a, b))
    copy = _best(setting, lambda: target.copy_(source))
    return {"TFLOP/s": 2 * side**3 / product / 1e12, "TB/s": 2 * source.nbytes / copy / 1e12}


def _best(setting: Setting, action: Callable[[], object]) -> float:
    """Return the median time of an action (seconds)."""

    @contextlib.contextmanager
    def start() -> Iterator[Steps]:
        def step() -> int:
            action()
            return 1

        yield Steps(step, _synchronize(setting))

    readings = [run_steps(start, Length(seconds=0.2, warmup=0.1)) for _ in range(3)]
    return median(one.seconds / one.items for one in readings)


def _synchronize(setting: Setting) -> Callable[[], None]:
    return torch.cuda.synchronize if setting.gpu else lambda: None


def agreement(setting: Setting) -> Figures:
    """Run the tests that need a GPU. Raises Failure if one fails."""
    report = setting.scratch / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *GPU_TESTS, f"--junitxml={report}", "--durations=5"]
    failed = subprocess.run(command, cwd=ROOT, check=False).returncode
    suite = ElementTree.parse(report).getroot()[0].attrib
    if failed:
        raise Failure(f"{suite['failures']} of {suite['tests']} tests failed, {suite['errors']} broke off")
    return {"tests passed": int(suite["tests"]) - int(suite["skipped"])}


def loading(setting: Setting, *, raw: bool = False, **flags: Any) -> Figures:
    """Measure our loader alone, onto the device."""
    return _loader_rates(setting, setting.loading(raw=raw, **flags))


def _loader_rates(setting: Setting, config: DataConfig) -> Figures:
    @contextlib.contextmanager
    def start() -> Iterator[Steps]:
        with (
            contextlib.closing(build_loader(config, "train", device=setting.device, training=True)) as loader,
            contextlib.closing(endless(loader)) as batches,
        ):
            yield Steps(lambda: len(next(batches)), _synchronize(setting))

    return _rates(setting, start)


def dalis_reader(setting: Setting) -> Figures:
    """Measure DALI's own webdataset reader with our decoding."""
    assert setting.frames.jpeg

    @contextlib.contextmanager
    def start() -> Iterator[Steps]:
        reader = dali_reader(
            *(setting.frames.jpeg, setting.batch_size, available_cores()),
            device=setting.device,
            dtype="uint8",
            seed=0,
        )
        with reader as batches:
            yield Steps(lambda: len(next(batches.stream)[0]), _synchronize(setting))

    return _rates(setting, start)


def _rates(setting: Setting, start: Callable[[], contextlib.AbstractContextManager[Steps]]) -> Figures:
    """Measure repetitions of a work in one start."""
    with start() as work:
        same = contextlib.nullcontext(work)
        readings = [run_steps(lambda: same, setting.length) for _ in range(setting.repetitions)]
    shares = [one.figures["host CPU share"] for one in readings if one.figures]
    return {
        "images/s": [one.items / one.seconds for one in readings],
        "host CPU share": median(shares) if shares else None,
    }


def training(setting: Setting, *, way: Way) -> Figures:
    """Measure the real training loop, in turn from shards and from a cached batch."""
    if setting.gpu:
        torch.cuda.reset_peak_memory_stats()
    shards, cached = train_in_turn(way.config(setting), setting.length, setting.repetitions)
    return {
        "images/s": [one.items / one.seconds for one in shards],
        "images/s, cached batch": [one.items / one.seconds for one in cached],
        "data-wait share": median(one.figures["data-wait share"] for one in shards),
        **count(way.stage, setting.backbones[way.larger], setting.image_size, way.size(setting)),
        "GiB at most": torch.cuda.max_memory_allocated() / 2**30 if setting.gpu else None,
    }


def profiled(setting: Setting, *, way: Way) -> Figures:
    """Trace some steps and say where the device's time goes."""
    return profile_step(way.config(setting))


def falling(setting: Setting, *, way: Way) -> Figures:
    """Train some steps. Raises Failure if the training loss does not fall."""
    with tempfile.TemporaryDirectory(dir=setting.scratch) as folder:
        config = way.config(
            setting,
            run_dir=Path(folder),
            max_steps=setting.steps,
            log_every=max(1, setting.steps // 6),
            optim=OptimConfig(lr=3e-4),
        )
        with join_processes(config.device, config.distributed.timeout) as process:
            trainer = Trainer(config, process)
            with contextlib.closing(trainer):
                trainer.fit()
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    losses = [entry["train/loss"] for entry in entries if "train/loss" in entry]
    if not losses[-1] < losses[0]:
        raise Failure(f"the loss did not fall: {losses}")
    return {"loss": losses}


def reference(setting: Setting, *, stage: StageName) -> Figures:
    """Measure the reference way: batches of 16, full precision, a worker process on each core."""
    if missing := not_installed("skimage"):
        raise Failure(missing)
    assert setting.frames.dataset
    start = partial(
        reference_training,
        setting.frames.dataset,
        stage,
        setting.backbones[0],
        image_size=setting.image_size,
        batch_size=min(RECIPE_BATCH, setting.batch_size),
        workers=available_cores(),
        device=setting.device,
        seed=0,
    )
    return _rates(setting, start)
