"""Dictionaries as torch.save writes them: errors are named, and reading executes nothing of what a file holds."""

from __future__ import annotations

import _compat_pickle
import pickle
import pickletools
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import torch

from loaders.errors import InputError

SAVE_WEIGHTS: Final = (
    "save its weights alone, torch.save({'resnet_state_dict': heatmap_net.state_dict(), "
    "'autoencoder_state_dict': lifting_net.state_dict()}, FILE)"
)
"""What to do with a file that holds more than weights."""
_OLD_FORMAT: Final = 4
"""Pickles with which a file of the old format begins: magic number, version, kind of machine, content."""


class DamagedError(InputError):
    """A file whose bytes are not what was written."""


class Foreign:
    """Stands for an object of another program: takes what the file gives it, and keeps nothing."""

    def __new__(cls, *_: object) -> Foreign:
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"a {type(self).__name__}"


def write(path: Path, content: dict[str, Any]) -> None:
    """Write any dictionary as torch does. Raises OSError with the system's reason, which torch keeps to itself."""
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch ends the archive also after an error, and fails again
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read(path: Path) -> dict[str, Any]:
    """Read any dictionary that torch.save wrote into host memory, every byte checked; see `Foreign`.

    Raises InputError if it is absent or another kind of file, DamagedError if its bytes are not those that were
    written.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {state}: give a checkpoint file such as runs/NAME/best.pt")
    try:
        if reason := _damage(path):
            raise DamagedError(f"{path} is damaged: {reason}")
        content = _load(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check who may, and its disk") from error
    except Exception as error:  # bytes that are no pickle can raise anything
        raise _fault(path, error) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds one {type(content).__name__}, not a dictionary of weights: {SAVE_WEIGHTS}")
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
            return InputError(f"{path} is a TorchScript program: {SAVE_WEIGHTS}")
        if not any(name.endswith("/data.pkl") for name in names):
            held = names[0] if names else "nothing"
            return InputError(f"{path} is a ZIP archive of {held}, not a checkpoint: unpack it and give what it holds")
        reason = str(error.__context__ or error).strip().split("\n")[0].rstrip(".")  # torch puts advice around it
        return InputError(f"{path} is whole, but only executing it would tell what it holds ({reason}): {SAVE_WEIGHTS}")
    if _is_pickle(path):
        return InputError(f"{path} is a plain pickle, which is not read, for it may run anything: {SAVE_WEIGHTS}")
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


def _load(path: Path) -> Any:
    """Read a file into host memory; objects of types that torch does not know become `Foreign`.

    Raises whatever torch raises for bytes that it cannot read.
    """
    with warnings.catch_warnings(action="ignore"):  # of old formats and protocols: either they load, or they do not
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            stand_ins: list[Any] = [(_stand_in(name), name) for name in _names(path)]
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> Callable[..., Any]:
    """Return what is called instead of the function or class of that name."""
    containers: dict[str, Callable[..., Any]] = {
        "collections.defaultdict": lambda *_: OrderedDict(),
        "collections.deque": lambda *_: [],
    }
    # messages name a type of "builtins" without its module, which stands in the name
    return containers.get(name) or type(name, (Foreign,), {"__module__": "builtins"})


def _names(path: Path) -> set[str]:
    """Return the functions and classes that a file refers to, each as module.name."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return {name for _ in range(_OLD_FORMAT) for name in _names_in_pickle(file)}
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(member) as file:
            return set(_names_in_pickle(file))


def _names_in_pickle(file: IO[bytes]) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
            # pickles have Python 2's names, of which torch's reader makes today's
            renamed = _compat_pickle.IMPORT_MAPPING.get(module, module), name
            yield ".".join(_compat_pickle.NAME_MAPPING.get((module, name), renamed))
