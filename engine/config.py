"""The configuration of a training run: flags, whose defaults may come from a YAML file."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_type_hints

import tyro

from engine.checkpoint.checkpointer import CheckpointConfig
from engine.cli.command import Command, parse
from engine.cli.flags import keys_of
from engine.cli.yaml_file import read_yaml
from engine.device import MatmulPrecision
from engine.distributed import DistributedConfig
from engine.optimizer import OptimConfig
from engine.precision import PrecisionName
from engine.stages import ModelConfig
from engine.tracking.opening import LogConfig
from loaders import DataConfig
from loaders.errors import InputError
from loaders.ranges import POSITIVE, Range, check_ranges
from models.losses import LossWeights

CompileMode = Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]
ConfigT = TypeVar("ConfigT")

_UNUSED: Final[dict[str, set[str]]] = {
    "train2d": {"load_3d", "loss.reconstruction", "loss.pose", "loss.cosine", "loss.bone"},
    "train3d": {"load_2d", "loss.heatmap", "model.backbone", "model.pretrained"}
    | {f"data.augment.{name}" for name in ("brightness", "contrast", "saturation")},
    "finetune": set(),
}
"""Flags that mean nothing to a stage."""
_DECODING: Final = {
    *("data.backend", "data.threads", "data.prefetch", "data.on_bad_sample"),
    *("data.decode_on", "data.hw_decoder_load", "data.fast_dct"),
}
"""Flags that mean nothing where no image is decoded."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Command):
    """A training run."""

    config: Path | None = None
    """YAML file with any of these flags as nested keys; the command line wins."""
    stage: str
    """What is trained: train2d images to heatmaps, train3d true heatmaps to pose, finetune both together; or a class of
    your own, as package.module:Class or path/to/file.py:Class, see `engine.stages.Stage`."""
    run_dir: Path
    """Folder of the run: checkpoints, logs, summary."""
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    epochs: int = 3
    """Passes over the training split (epochs)."""
    max_steps: int | None = None
    """End earlier, after this many optimizer steps (steps)."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    compile: CompileMode = "auto"
    """Mode of torch.compile; auto is off on a CPU, for backbones of timm and networks of your own, and on a GPU for
    train2d and finetune, whose batch normalization has kernels of its own. The first steps of train3d then take a
    minute."""
    cuda_graph: Literal["auto", "always", "never"] = "auto"
    """Record forward and backward pass as one CUDA graph, which the host starts by a single call; auto does so on a GPU
    for one process without gradient accumulation, for the engine's networks without timm."""
    deterministic: bool = False
    """On a GPU, take kernels that give the same bits every time; torch warns of those that do not. Slower: otherwise
    cuDNN times its kernels in the first steps and takes the fastest."""
    matmul_precision: MatmulPrecision = "high"
    """How a GPU multiplies float32: highest with all 24 bits of the factors, high with 11 (TF32), medium with 8 where
    torch has kernels for it. With bf16 and fp16 only the last layers of the pose are float32."""
    peak_tflops: float | None = None
    """Matrix products that one device could do in the run's precision (10^12 operations per second), for the share that
    training does of them (MFU); None knows most GPUs of data centers by name."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU if there is one."""
    seed: int = 0
    """Seed of the initial weights (integer); data.seed is that of order and augmentation."""
    log_every: int = 50
    """Interval of log entries (steps); between them the host never waits for the device."""
    validate_every: int = 1
    """Interval of validations (epochs); there is one before the first step and one at the end."""
    load: Path | None = None
    """Checkpoint whose networks to begin with, all that it holds; also of a network or a stage of your own."""
    load_2d: Path | None = None
    """Checkpoint whose heatmap network to begin with, ours or the reference code's."""
    load_3d: Path | None = None
    """Checkpoint whose lifting network to begin with, ours or the reference code's."""
    resume: bool = False
    """Continue the run in run_dir from its last checkpoint; a run that has none yet begins. Processes that torchrun
    restarts do so by themselves."""
    dry_run: bool = False
    """Say what would be done, how long it would take and how much space and memory, by a few steps; write nothing."""
    profile: bool = False
    """Write a torch.profiler trace of steps 7 to 11 to profile.json.gz in the run folder."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            self,
            epochs=Range(1),
            max_steps=Range(1),
            seed=Range(-(2**62), 2**62),
            log_every=Range(1),
            peak_tflops=POSITIVE,
            validate_every=Range(1),
        )
        # LossWeights belong to the models, which know no errors of input
        check_ranges(self.loss, "loss.", **{field.name: Range(0) for field in dataclasses.fields(self.loss)})
        if self.optim.grad_accum_steps > self.data.batch_size:
            raise InputError(
                f"optim.grad_accum_steps is {self.optim.grad_accum_steps}, more than data.batch_size "
                f"{self.data.batch_size}"
            )


def parse_train(arguments: Sequence[str], *, program: str = "train", description: str = "") -> TrainConfig:
    """As `engine.cli.command.parse`; what the file of a ``--config FILE`` sets are the defaults."""
    path = _config_path(arguments)
    file = read_yaml(path, dict(keys_of(TrainConfig))) if path else {}
    try:
        return parse(
            TrainConfig,
            arguments,
            program=program,
            description=description,
            default=_unchecked(TrainConfig, {key: entry.value for key, entry in file.items()}),
            example="--config configs/train2d.yaml --data.shards SHARDS --run-dir runs/2d",
        )
    except InputError as error:
        key = str(error).split()[0].rstrip(":")
        given = {argument.partition("=")[0].removeprefix("--").replace("-", "_") for argument in arguments}
        if key in file and key not in given:
            raise InputError(f"{path}, line {file[key].line}: {error}") from None
        raise


def _config_path(arguments: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", nargs="?")
    text = parser.parse_known_args(arguments)[0].config
    if text is None:
        return None
    return Path(os.path.expanduser(text))  # noqa: PTH111 - goes on where a home folder is unknown


def _unchecked(config: type[ConfigT], values: Mapping[str, Any], prefix: str = "") -> ConfigT:
    """Return a configuration that may lack values or go beyond ranges: the command line has not been read yet."""
    made = object.__new__(config)
    hints = get_type_hints(config)
    for each in dataclasses.fields(config):  # type: ignore[arg-type]
        key = prefix + each.name
        if dataclasses.is_dataclass(hint := hints[each.name]):
            vars(made)[each.name] = _unchecked(hint, values, f"{key}.")  # type: ignore[arg-type]
        else:
            default = tyro.MISSING if each.default is dataclasses.MISSING else each.default
            vars(made)[each.name] = values.get(key, default)
    return made


def used_values(config: TrainConfig) -> dict[str, Any]:
    """Return what a run obeys as nested plain values, fit for YAML and for a checkpoint."""
    unused = _unused_keys(config) | {"dry_run"}  # a run that records anything is none

    def used(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        return {
            name: used(value, f"{prefix}{name}.") if isinstance(value, dict) else value
            for name, value in values.items()
            if prefix + name not in unused
        }

    return used(to_plain(config))


def ignored_values(config: TrainConfig) -> dict[str, Any]:
    """Return by dotted key what the user has set and the run does not obey."""
    values, defaults = flatten(to_plain(config)), flatten(to_plain(_unchecked(TrainConfig, {})))
    return {key: values[key] for key in sorted(_unused_keys(config)) if values[key] != defaults[key]}


def _unused_keys(config: TrainConfig) -> set[str]:
    """Return the dotted keys that mean nothing to a run: those of other stages, optimizers and schedules."""
    unused = set(_UNUSED.get(config.stage, ()))
    if config.model.network is not None:
        unused |= {"model.backbone", "model.pretrained"}
    if config.data.access == "random":
        unused |= {"data.shuffle_window", "data.remote"}
        unused |= _DECODING if config.stage == "train3d" else set()
    if not config.log.trackers:
        unused.add("log.project")
    if config.optim.name != "sgd":
        unused.add("optim.momentum")
    if config.optim.schedule != "step":
        unused |= {"optim.step_epochs", "optim.gamma"}
    return unused


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def to_plain(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain values, fit for YAML and for a checkpoint."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        if isinstance(value, Path):
            return f"./{value}" if str(value).startswith("~") else str(value)  # it is no home folder
        return value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}
