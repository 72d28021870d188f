"""The format of checkpoints: what they hold, written whole or not at all, read with everything checked."""

from __future__ import annotations

import dataclasses
import random
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from engine.checkpoint import torch_file
from engine.checkpoint.torch_file import SAVE_WEIGHTS
from loaders.errors import InputError
from loaders.system.files import appearing
from models import reference_weights
from models.skeleton import Skeleton
from models.xr_egopose import SKELETON

FORMAT: Final = "egopose-checkpoint"
VERSION: Final = 3

Weights = dict[str, dict[str, Tensor]]
"""Network ("heatmap_net", "lifting_net") -> its state dict."""


@dataclass(frozen=True, kw_only=True)
class ResumeState:
    """What a run needs to go on, beside its weights."""

    best: float
    """The lowest validation metric so far; infinite before the first validation."""
    validations: list[dict[str, float]]
    """Metrics of every validation so far."""
    validated_at: int | None
    """Step of the last validation."""
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    """State of the gradient scaler; empty where gradients are not scaled."""
    training_weights: Weights | None
    """The weights that the optimizer updates, where the checkpoint's `weights` are their average."""
    averaged_steps: Tensor | None
    """How many steps the average has seen."""
    loader: dict[str, Any]
    """Where the training loader is."""
    random: dict[str, Any]
    """See `random_state`."""
    running_means: dict[str, Any]
    """Losses since the last log entry."""
    log_position: int
    """Length of metrics.jsonl (bytes)."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network, and the state of the run that trained it."""

    stage: str
    image_size: int
    """Side of the network's images (pixels)."""
    config: dict[str, Any]
    """Configuration of the run, as nested plain values."""
    weights: Weights
    """The weights to use."""
    step: int = 0
    """Steps that the run has taken; 0 for the reference code's checkpoints, which do not tell."""
    preprocessing: dict[str, Any] | None = None
    """What was done to the stored training images, as plain values of `loaders.preprocessing.Preprocessing`."""
    head: dict[str, Any] | None = None
    """Where the head is in the camera frame of the training images, as plain values of `models.head.HeadPosition`; None
    if it is not known."""
    skeleton: dict[str, Any] | None = None
    """What the joints are, as plain values of `models.skeleton.Skeleton`; None is xR-EgoPose's."""
    resume_state: ResumeState | None = None
    """None where nothing can go on: in a converted checkpoint."""

    def to_file(self) -> dict[str, Any]:
        """Return the dictionary that `torch_file.write` takes."""
        resume_state = vars(self.resume_state) if self.resume_state else None
        return {"format": FORMAT, "version": VERSION, **vars(self), "resume_state": resume_state}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it appears complete or not at all."""
    with appearing(path) as temporary:
        torch_file.write(temporary, checkpoint.to_file())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint of ours to go on from. Raises InputError if it is absent, damaged, foreign or non-finite."""
    checkpoint = load_any(path)
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"{path} holds weights alone, no run to go on with: begin one by --load")
    if checkpoint.resume_state is not None:
        _check_finite(checkpoint.resume_state.optimizer, "optimizer", path)
    return checkpoint


def load_any(path: Path) -> Checkpoint | Weights:
    """Read a checkpoint of ours, or the weights in a file of the reference code or of a bare network.

    Raises InputError if it is absent, damaged, neither, or if a network is not what it should be.
    """
    content = torch_file.read(path)
    if content.get("format") == FORMAT:
        return _from_file(content, path)
    return _checked_networks(reference_weights.from_reference(content) or _refuse(content, path), path)


def load_weights(path: Path, skeleton: Skeleton) -> Weights:
    """Return the weights in any checkpoint that `load_any` reads. Raises InputError if they are of other joints."""
    content = load_any(path)
    if not isinstance(content, Checkpoint):
        return content
    theirs = SKELETON.joints if content.skeleton is None else tuple(content.skeleton.get("joints", ()))
    if theirs != skeleton.joints:
        raise InputError(
            f"{path} was trained on the joints {', '.join(map(str, theirs))}, not {', '.join(skeleton.joints)}: give "
            "the checkpoint of a run on shards with the same skeleton"
        )
    return content.weights


def load_network(path: Path, network: str, skeleton: Skeleton) -> dict[str, Tensor]:
    """Return one network's weights, as `load_weights`. Raises InputError also if they do not hold it."""
    weights = load_weights(path, skeleton)
    if network not in weights:
        raise InputError(f"{path} holds no {network}, only {' and '.join(weights)}: give the other stage's checkpoint")
    return weights[network]


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Return a network's weights that torch.save wrote as they were. Raises InputError if they cannot be used."""
    return _checked_network(torch_file.read(path), "state dict", path)


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators. Ours draw from torch alone; what users add may not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is meant
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of all random generators, as values that a checkpoint can hold."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator is meant
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set all random generators to the states that `random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])


def _from_file(content: dict[str, Any], path: Path) -> Checkpoint:
    """Return the checkpoint that `Checkpoint.to_file` made this dictionary of."""
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} has checkpoint version {content.get('version')}, this program reads {VERSION}: use the one that "
            "wrote it"
        )
    values = _fields(Checkpoint, content, path)
    values["weights"] = _checked_networks(values["weights"], path)
    if resumable := values["resume_state"]:
        resumable = _fields(ResumeState, resumable, path)
        if resumable["training_weights"] is not None:
            resumable["training_weights"] = _checked_networks(resumable["training_weights"], path)
        values["resume_state"] = ResumeState(**resumable)
    return Checkpoint(**values)


def _fields(kind: type, content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a dataclass's fields out of a dictionary. Raises InputError if one is absent or of another type."""
    hints = get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        value = content.get(field.name, field.default)
        if value is dataclasses.MISSING:
            raise InputError(
                f"{path} holds no {field.name}: it was altered, or it holds weights alone, which --load takes"
            )
        if not _is_of(value, hints[field.name]):
            raise InputError(f"{path} was altered: its {field.name} is a {type(value).__name__}")
        values[field.name] = value
    return values


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value has an annotated type; dataclasses are dictionaries in a file."""
    hints = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = tuple(dict if dataclasses.is_dataclass(one) else get_origin(one) or one for one in hints)
    return isinstance(value, plain) or (float in plain and isinstance(value, int))


def _refuse(content: dict[str, Any], path: Path) -> dict[str, Any]:
    if any(str(name).endswith("layer1.0.conv1.weight") for name in content):
        raise InputError(f"{path} is a backbone without heatmaps: give it as --model.pretrained to train2d")
    held = ", ".join(map(str, list(content)[:4])) or "nothing"
    raise InputError(
        f"{path} is neither a checkpoint of this engine nor of the reference code (it holds {held}): {SAVE_WEIGHTS}"
    )


def _checked_networks(networks: Mapping[str, Any], path: Path) -> Weights:
    return {name: _checked_network(state, name, path) for name, state in networks.items()}


def _checked_network(state: Any, network: str, path: Path) -> dict[str, Tensor]:
    """Return a network's weights under its own names. Raises InputError if one is non-finite, or no plain tensor."""
    if not isinstance(state, dict):
        raise InputError(f"{path}: its {network} is a {type(state).__name__}, not a state dict: {SAVE_WEIGHTS}")
    weights = reference_weights.unwrapped(state)
    if len(weights) < len(state):
        raise InputError(f"{path}: its {network} holds some weights twice, with and without a wrapper's prefix")
    for name, tensor in weights.items():
        plain = isinstance(tensor, Tensor) and tensor.layout is torch.strided and not tensor.is_meta
        if not plain or tensor.is_complex() or tensor.is_quantized:
            raise InputError(f"{path}: {name} of its {network} is no tensor of plain numbers: {SAVE_WEIGHTS}")
    _check_finite(weights, network, path)
    return weights


def _check_finite(value: Any, name: str, path: Path) -> None:
    """Raise InputError if a tensor in nested dictionaries is not finite as float32, in which networks compute."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, f"{name}.{key}", path)
    elif isinstance(value, Tensor) and not (finite := value.float().isfinite()).all():
        raise InputError(
            f"{path}: {name} is non-finite in {int((~finite).sum())} of {value.numel()} values, the run had failed: "
            "take a checkpoint from before, or train anew with a lower optim.lr"
        )
