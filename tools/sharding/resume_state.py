"""The resume state of a sharding run: what a run that was stopped leaves for the next one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from loaders.errors import InputError
from loaders.format.manifest import FILE_NAME, VERSION, Manifest, Shard, SkippedFrame
from loaders.plain import from_plain
from loaders.preprocessing import Preprocessing
from loaders.system.files import remove_partials, write_whole
from loaders.system.locks import locked
from models import xr_egopose
from models.skeleton import ActionGroups, Skeleton
from tools.sources import Source

FOLDER: Final = ".resume"
_OPTIONS: Final = "options.json"


@dataclass(frozen=True)
class Recipe:
    """All that a shard set is made of, but for the order of its frames."""

    source: Source
    options: dict[str, Any]
    """The options that the manifest lists."""
    preprocessing: Preprocessing
    """What is done to the images."""
    version: int = VERSION
    """Of the format."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.source.name

    @property
    def skeleton(self) -> Skeleton:
        """What the joints are."""
        return self.source.skeleton

    @property
    def action_groups(self) -> dict[str, tuple[str, ...]]:
        """Groups of actions."""
        return {group: tuple(actions) for group, actions in self.source.action_groups.items()}


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard."""

    shard: Shard
    """With no samples, no file was written."""
    skipped: tuple[SkippedFrame, ...]
    """Frames that turned out to be unusable when they were decoded."""


@contextlib.contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Keep a second run out of the folder, and remove partly written files at the end."""
    with locked(output):
        try:
            yield
        finally:
            if (output / FOLDER / _OPTIONS).is_file():  # else the folder may hold something else
                with contextlib.suppress(OSError):
                    remove_partials(output)


def is_finished(output: Path, recipe: Recipe) -> bool:
    """Return whether a folder holds the shard set of a recipe, finished.

    False if it holds part of it, or nothing. Raises InputError if it holds anything else. Nothing is written.
    """
    remedy = "give another --output, or delete that folder"
    wanted = _flat(recipe)
    if (output / FILE_NAME).is_file():
        _compare(_flat(Manifest.read(output)), wanted, f"{output} holds a finished shard set", remedy)
        return True
    begun = output / FOLDER / _OPTIONS
    if begun.is_file():
        what = f"{output} holds an unfinished shard set"
        _compare(_RELEASED | json.loads(begun.read_bytes()), wanted, what, f"repeat its options, {remedy}")
    elif output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise InputError(f"{output} is not empty and holds no shard set: give --output a new folder")
    return False


def prepare(output: Path, recipe: Recipe) -> bool:
    """Make the folder ready for that shard set; return whether it is finished already.

    Raises InputError if the folder holds anything else.
    """
    finished = is_finished(output, recipe)
    begun = output / FOLDER / _OPTIONS
    if not finished and not begun.is_file():
        begun.parent.mkdir(exist_ok=True)
        write_whole(begun, json.dumps(_flat(recipe), indent=1).encode())
    remove_partials(output)  # of a killed run, a slow worker of which may have begun another shard since
    return finished


def save_result(output: Path, result: ShardResult) -> None:
    """Save a shard's result; to be called just before the shard gets its name."""
    write_whole(output / FOLDER / f"{result.shard.name}.json", json.dumps(asdict(result)).encode())


def load_result(output: Path, split: str, name: str) -> ShardResult | None:
    """Return the result of a shard that an earlier run finished, else None."""
    saved, path = output / FOLDER / f"{name}.json", output / split / name
    if not saved.is_file():
        return None
    result = from_plain(ShardResult, json.loads(saved.read_bytes()))
    if result.shard.samples and not (path.is_file() and path.stat().st_size == result.shard.bytes):
        return None
    return result


def discard(output: Path) -> None:
    """Remove the resume state of a run whose manifest is written."""
    if (output / FOLDER).is_dir():
        shutil.rmtree(output / FOLDER)


def _flat(made: Manifest | Recipe) -> dict[str, Any]:
    """Return everything that determines the bytes; the image circle follows from them."""
    values = asdict(replace(made.preprocessing, image_circle=None))
    values |= _described(made.dataset, values.pop("frame"), made.skeleton, made.action_groups)
    return _as_file({"format version": made.version, **made.options, **values})


def _described(dataset: str, camera: dict[str, Any], skeleton: Skeleton, groups: ActionGroups) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "camera": camera,
        "skeleton": asdict(skeleton),
        "action groups": {group: list(actions) for group, actions in groups.items()},
    }


def _as_file(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as a JSON file has them."""
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


_RELEASED: Final = _as_file(
    _described(xr_egopose.NAME, asdict(xr_egopose.CAMERA), xr_egopose.SKELETON, xr_egopose.ACTION_GROUPS)
)
"""What a run that was begun before there were other datasets left unsaid."""


def _compare(made: dict[str, Any], wanted: dict[str, Any], what: str, remedy: str) -> None:
    differences = [
        "made of other frames or labels"
        if key == "frames"
        else f"with another {key}"
        if isinstance(wanted.get(key), dict)
        else f"with {key} {made.get(key)}, not {wanted.get(key)}"
        for key in sorted(made.keys() | wanted.keys())
        if made.get(key) != wanted.get(key)
    ]
    if differences:
        raise InputError(f"{what} {', '.join(differences)}: {remedy}")
