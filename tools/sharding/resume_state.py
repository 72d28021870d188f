"""The state of a sharding run that goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from loaders.errors import InputError
from loaders.format import manifest
from loaders.format.manifest import Manifest, Shard, SkippedFrame
from loaders.preprocessing import Preprocessing
from loaders.system.files import remove_partials, write_whole
from loaders.system.locks import locked

FOLDER: Final = ".unfinished"
_PLAN: Final = "plan.json"


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard."""

    shard: Shard
    """With no samples, no file was written."""
    skipped: tuple[SkippedFrame, ...]
    """Frames found unusable on decoding."""


@contextlib.contextmanager
def at_work(output: Path) -> Iterator[None]:
    """Keep a second run out of the folder, and leave nothing half-written behind."""
    with locked(output):
        try:
            yield
        finally:
            if (output / FOLDER / _PLAN).is_file():  # else the folder may be somebody else's
                with contextlib.suppress(OSError):
                    remove_partials(output)


def begin(output: Path, options: dict[str, Any], preprocessing: Preprocessing) -> bool:
    """Make the folder ready for the shard set that ``options`` and ``preprocessing`` determine.

    Returns True if it holds that set, finished; False if shards remain to be written. Raises InputError if it holds
    anything else.
    """
    remedy = "give another --output, or delete that folder"
    wanted = _flat(options, preprocessing)
    if (output / manifest.FILE_NAME).is_file():
        made = Manifest.read(output)
        _compare(_flat(made.options, made.preprocessing), wanted, f"{output} holds a finished shard set", remedy)
        remove_partials(output)  # a killed run's worker that was held up may have begun another shard since
        return True
    plan = output / FOLDER / _PLAN
    if plan.is_file():
        begun = json.loads(plan.read_bytes())
        _compare(begun, wanted, f"{output} holds an unfinished shard set", f"repeat its options, {remedy}")
    else:
        if any(not path.name.startswith(".") for path in output.iterdir()):
            raise InputError(f"{output} is not empty and holds no shard set: give --output a new folder")
        plan.parent.mkdir(exist_ok=True)
        write_whole(plan, json.dumps(wanted, indent=1).encode())
    remove_partials(output)
    return False


def record(output: Path, result: ShardResult) -> None:
    """Note a shard's result, just before the shard appears."""
    write_whole(_note(output, result.shard.name), json.dumps(asdict(result)).encode())


def recall(output: Path, split: str, name: str) -> ShardResult | None:
    """Return the result of a shard that an earlier run finished, else None."""
    note, path = _note(output, name), output / split / name
    if not note.is_file():
        return None
    content = json.loads(note.read_bytes())
    shard = Shard(**content["shard"])
    if shard.samples and not (path.is_file() and path.stat().st_size == shard.bytes):
        return None
    return ShardResult(shard, tuple(SkippedFrame(**frame) for frame in content["skipped"]))


def end(output: Path) -> None:
    """Forget the run: the manifest is written."""
    if (output / FOLDER).is_dir():
        shutil.rmtree(output / FOLDER)


def _note(output: Path, name: str) -> Path:
    return output / FOLDER / f"{name}.json"


def _flat(options: dict[str, Any], preprocessing: Preprocessing) -> dict[str, Any]:
    """Return everything that determines the bytes; the image circle is found in them."""
    return {**options, **asdict(dataclasses.replace(preprocessing, image_circle=None))}


def _compare(made: dict[str, Any], wanted: dict[str, Any], what: str, remedy: str) -> None:
    differences = [
        "made of other frames or labels" if key == "frames" else f"with {key} {made.get(key)}, not {wanted.get(key)}"
        for key in sorted(made.keys() | wanted.keys())
        if made.get(key) != wanted.get(key)
    ]
    if differences:
        raise InputError(f"{what} {', '.join(differences)}: {remedy}")
