"""Checkpoints: written whole or not at all, read without executing anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from loaders.errors import InputError
from loaders.files import appearing
from models import reference_weights

FORMAT: Final = "egopose-checkpoint"
VERSION: Final = 2

Weights = dict[str, dict[str, torch.Tensor]]


class DamagedError(InputError):
    """A checkpoint whose bytes are not what was written."""


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


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours into host memory. Raises InputError if it is absent, damaged or foreign."""
    return check(read(path), path)


def check(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return what was read from ``path`` if it is a checkpoint of ours. Raises InputError if not."""
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is neither a checkpoint of this engine nor of the reference code")
    if content.get("version") != VERSION:
        raise InputError(f"{path} has checkpoint version {content.get('version')}, this program reads {VERSION}")
    return content


def load_weights(path: Path) -> Weights:
    """Return the networks' weights in a checkpoint, ours or the reference code's: network name -> state."""
    content = read(path)
    if reference_weights.is_reference(content):
        return reference_weights.from_reference(content)
    weights: Weights = check(content, path)["model"]
    return weights


def load_network(path: Path, network: str) -> dict[str, torch.Tensor]:
    """Return one network's weights. Raises InputError if the checkpoint does not hold it."""
    weights = load_weights(path)
    if network not in weights:
        raise InputError(f"{path} holds no {network}, only {' and '.join(weights)}: give the other stage's checkpoint")
    return weights[network]


def read(path: Path) -> dict[str, Any]:
    """Read any checkpoint's dictionary into host memory, every byte checked.

    Raises InputError if it is absent or no checkpoint, DamagedError if its bytes are not those that were written.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a checkpoint file such as runs/NAME/best.pt")
    path.open("rb").close()  # a file that may not be read is not damaged: OSError says so
    try:
        spoilt = _spoilt_member(path)
        content = torch.load(path, map_location="cpu", weights_only=True) if spoilt is None else {}
    except Exception as error:  # bytes that are no pickle can raise anything
        raise DamagedError(f"{path} cannot be read as a checkpoint: it is damaged or another kind of file") from error
    if spoilt is not None:
        raise DamagedError(f"{path} is damaged: the checksum of {spoilt} is wrong")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _spoilt_member(path: Path) -> str | None:
    """Return the first part whose checksum is wrong, which torch does not look at; None for the old kind of file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()
