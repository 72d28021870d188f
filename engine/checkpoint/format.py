"""Checkpoints: written whole or not at all, read without executing anything."""

from __future__ import annotations

import pickletools
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from engine.checkpoint import foreign_types
from loaders.errors import InputError
from loaders.system.files import appearing
from models import reference_weights

FORMAT: Final = "egopose-checkpoint"
VERSION: Final = 2

Weights = dict[str, dict[str, Tensor]]

_SAVE_WEIGHTS: Final = (
    "save its weights alone, torch.save({'resnet_state_dict': heatmap_net.state_dict(), "
    "'autoencoder_state_dict': lifting_net.state_dict()}, FILE)"
)
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "stage": str,
    "image_size": int,
    "model": dict,
    "config": dict,
    "step": int,
    "best": (int, float),
    "validations": list,
    "optimizer": dict,
    "loader": dict,
    "random": dict,
    "trained": dict,
}
"""What a checkpoint of ours may hold, as far as all who read it rely on its type."""


class DamagedError(InputError):
    """A checkpoint whose bytes are not what was written."""


class Content(dict[str, Any]):
    """What a checkpoint of ours holds. Raises InputError for a key that is not there."""

    def __init__(self, content: dict[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"{self.path} holds no {key}: it was altered, or it holds weights alone, which --load-2d and --load-3d take"
        )


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values; it appears complete or not at all."""
    with appearing(path) as temporary:
        write(temporary, content)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint to a file that nobody reads yet; see `save`."""
    write_any(path, {"format": FORMAT, "version": VERSION, **content})


def write_any(path: Path, content: dict[str, Any]) -> None:
    """Write any dictionary as torch does. Raises OSError with the system's reason, which torch keeps to itself."""
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch ends the archive also after an error, and fails again
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load(path: Path) -> Content:
    """Read a checkpoint of ours to go on from. Raises InputError if it is absent, damaged, foreign or non-finite."""
    content = load_any(path)
    if "format" not in content:
        raise InputError(f"{path} holds weights alone, no run to go on with: begin one by --load-2d or --load-3d")
    _check_finite(content.get("optimizer"), "optimizer", path)
    return content


def load_any(path: Path) -> Content:
    """Read a checkpoint of ours, or others' weights in the same form: of those there is "model" alone.

    Raises InputError if it is absent, damaged, neither, or if a network is not what it should be.
    """
    content = read(path)
    if content.get("format") == FORMAT:
        _check_form(content, path)
    else:
        content = {"model": reference_weights.from_reference(content) or _refuse(content, path)}
    for key in ("model", "trained"):
        if key in content:
            content[key] = {name: _checked(state, name, path) for name, state in content[key].items()}
    return Content(content, path)


def load_weights(path: Path) -> Weights:
    """Return the networks' weights in a checkpoint, ours or the reference code's: network name -> state."""
    weights: Weights = load_any(path)["model"]
    return weights


def load_network(path: Path, network: str) -> dict[str, Tensor]:
    """Return one network's weights. Raises InputError if the checkpoint does not hold it."""
    weights = load_weights(path)
    if network not in weights:
        raise InputError(f"{path} holds no {network}, only {' and '.join(weights)}: give the other stage's checkpoint")
    return weights[network]


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Return a network's weights that torch.save wrote as they were. Raises InputError if they cannot be used."""
    return _checked(read(path), "state dict", path)


def read(path: Path) -> dict[str, Any]:
    """Read any dictionary that torch.save wrote into host memory, every byte checked; see `foreign_types`.

    Raises InputError if it is absent or another kind of file, DamagedError if its bytes are not those that were
    written.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {state}: give a checkpoint file such as runs/NAME/best.pt")
    try:
        if reason := _damage(path):
            raise DamagedError(f"{path} is damaged: {reason}")
        content = foreign_types.load(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check who may, and its disk") from error
    except Exception as error:  # bytes that are no pickle can raise anything
        raise _fault(path, error) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds one {type(content).__name__}, not a dictionary of weights: {_SAVE_WEIGHTS}")
    return content


def _damage(path: Path) -> str:
    """Return which part's checksum is wrong, which torch does not look at; empty if none, or without checksums."""
    if path.stat().st_size == 0:
        return "it is empty"
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        part = archive.testzip()
    return f"the checksum of {part} is wrong" if part else ""


def _fault(path: Path, error: Exception) -> InputError:
    """Return why a file whose checksums are right, if it has any, cannot be read."""
    if tarfile.is_tarfile(path):
        return InputError(f"{path} is a tar archive, not a checkpoint: unpack it and give what it holds")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return InputError(f"{path} is a TorchScript program: {_SAVE_WEIGHTS}")
        if not any(name.endswith("/data.pkl") for name in names):
            held = names[0] if names else "nothing"
            return InputError(f"{path} is a ZIP archive of {held}, not a checkpoint: unpack it and give what it holds")
        reason = str(error.__context__ or error).strip().split("\n")[0].rstrip(".")  # torch puts advice around it
        return InputError(
            f"{path} is whole, but only executing it would tell what it holds ({reason}): {_SAVE_WEIGHTS}"
        )
    if _is_pickle(path):
        return InputError(f"{path} is a plain pickle, which is not read, for it may run anything: {_SAVE_WEIGHTS}")
    return DamagedError(f"{path} cannot be read as a checkpoint: it is damaged or another kind of file")


def _is_pickle(path: Path) -> bool:
    """Whether a file is one pickle, no more and no less."""
    with path.open("rb") as file:
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception:  # bytes that are no pickle can raise anything
            return False
        return file.read(1) == b""


def _refuse(content: dict[str, Any], path: Path) -> dict[str, Any]:
    if any(str(name).endswith("layer1.0.conv1.weight") for name in content):
        raise InputError(f"{path} is a backbone without heatmaps: give it as --model.pretrained to train2d")
    held = ", ".join(map(str, list(content)[:4])) or "nothing"
    raise InputError(
        f"{path} is neither a checkpoint of this engine nor of the reference code (it holds {held}): {_SAVE_WEIGHTS}"
    )


def _check_form(content: dict[str, Any], path: Path) -> None:
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} has checkpoint version {content.get('version')}, this program reads {VERSION}: use the one that "
            "wrote it"
        )
    for key, expected in _TYPES.items():
        if key in content and not isinstance(content[key], expected):
            raise InputError(f"{path} was altered: its {key} is a {type(content[key]).__name__}")


def _checked(state: Any, network: str, path: Path) -> dict[str, Tensor]:
    """Return a network's weights under its own names. Raises InputError if one is non-finite, or no plain tensor."""
    if not isinstance(state, dict):
        raise InputError(f"{path}: its {network} is a {type(state).__name__}, not a state dict: {_SAVE_WEIGHTS}")
    weights = reference_weights.unwrapped(state)
    if len(weights) < len(state):
        raise InputError(f"{path}: its {network} holds some weights twice, with and without a wrapper's prefix")
    for name, tensor in weights.items():
        plain = isinstance(tensor, Tensor) and tensor.layout is torch.strided and not tensor.is_meta
        if not plain or tensor.is_complex() or tensor.is_quantized:
            raise InputError(f"{path}: {name} of its {network} is no tensor of plain numbers: {_SAVE_WEIGHTS}")
    _check_finite(weights, network, path)
    return weights


def _check_finite(value: Any, place: str, path: Path) -> None:
    """Raise InputError if a tensor in nested dictionaries is not finite as float32, in which networks compute."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_finite(item, f"{place}.{name}", path)
    elif isinstance(value, Tensor) and not (finite := value.float().isfinite()).all():
        raise InputError(
            f"{path}: {place} is non-finite in {int((~finite).sum())} of {value.numel()} values, the run had failed: "
            "take a checkpoint from before, or train anew with a lower optim.lr"
        )
