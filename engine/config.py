"""The configuration of a training run: flags, and a YAML file that stands for flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from engine.command import Command, parse
from engine.distributed import DistributedConfig
from engine.optimizer import OptimConfig
from engine.precision import PrecisionName
from engine.stages import ModelConfig, StageName
from loaders import DataConfig
from loaders.errors import InputError
from models.losses import LossWeights

CompileMode = Literal["off", "default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Command):
    """A training run."""

    config: Path | None = None
    """YAML file with any of these flags as nested keys; the command line wins."""
    stage: StageName
    """What is trained: train2d pictures to heatmaps, train3d true heatmaps to pose, finetune both together."""
    run_dir: Path
    """Folder of the run: checkpoints, logs, summary."""
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    epochs: int = 3
    """Passes over the training split (epochs)."""
    max_steps: int | None = None
    """End earlier, after this many optimizer steps (steps)."""
    precision: PrecisionName = "auto"
    """Type of matrix products; auto is bf16 where the GPU or CPU computes in it natively, else fp32."""
    compile: CompileMode = "off"
    """Mode of torch.compile."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU if there is one."""
    seed: int = 0
    """Seed of the initial weights (integer); data.seed is that of order and augmentation."""
    log_every: int = 50
    """Interval of log entries (steps); between them the host never waits for the device."""
    checkpoint_every: int = 500
    """Interval of checkpoints (steps); the end of every epoch has one as well."""
    checkpoint_minutes: float = 10.0
    """Longest time without a checkpoint (minutes)."""
    keep_checkpoints: int = 2
    """How many of the newest stay: last.pt, last-1.pt, ... (checkpoints); best.pt stays in any case."""
    validate_every: int = 1
    """Interval of validations (epochs); there is one before the first step and one at the end."""
    load_2d: Path | None = None
    """Checkpoint whose heatmap network to begin with, ours or the reference code's."""
    load_3d: Path | None = None
    """Checkpoint whose lifting network to begin with, ours or the reference code's."""
    resume: bool = False
    """Continue the run in run_dir from its last checkpoint; a run that has none yet begins. Processes that torchrun
    restarts do so by themselves."""
    profile: bool = False
    """Write a torch.profiler trace of steps 7 to 11 to profile.json.gz in the run folder."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("epochs", "max_steps", "log_every", "checkpoint_every", "keep_checkpoints", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give at least 1")
        if self.checkpoint_minutes <= 0:
            raise InputError(f"checkpoint_minutes is {self.checkpoint_minutes}: give a positive number of minutes")
        if self.optim.micro_batches > self.data.batch_size:
            raise InputError(
                f"optim.micro_batches is {self.optim.micro_batches}, more than data.batch_size {self.data.batch_size}"
            )


def parse_train(arguments: Sequence[str]) -> TrainConfig:
    """Parse the command line; a ``--config FILE`` becomes flags in front of the others."""
    path = _config_path(arguments)
    flags = list(yaml_flags(path)) if path else []
    try:
        return parse(
            TrainConfig,
            [*flags, *arguments],
            program="train",
            description="Train one stage: train2d, train3d or finetune.",
        )
    except InputError as error:
        if any(
            flag.startswith("--") and f"{flag} " in f"{error} ".replace(",", " ").replace(":", " ") for flag in flags
        ):
            raise InputError(f"{path}: {error}") from None
        raise


def _config_path(arguments: Sequence[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


def yaml_flags(path: Path) -> Iterator[str]:
    """Yield the flags that a YAML file stands for. Raises InputError if it is absent or no mapping."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a configuration file such as configs/train2d.yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys: expected lines such as 'stage: train2d'")
    yield from _flags(content, "--")


def _flags(content: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in content.items():
        flag = prefix + str(key).replace("_", "-")
        if isinstance(value, dict):
            yield from _flags(value, f"{flag}.")
        elif isinstance(value, bool):
            yield flag if value else f"{prefix}no-{flag.removeprefix(prefix)}"
        elif isinstance(value, list):
            yield from (flag, *map(str, value))
        else:
            yield from (flag, str(value))


def to_plain(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain values, fit for YAML and for a checkpoint."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}
