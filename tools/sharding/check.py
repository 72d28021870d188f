"""Checking one shard against the manifest, its index, and the dataset it came from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.format.index import compare_headers, index_name, read_index
from loaders.format.manifest import Manifest, Shard
from loaders.format.sample import (
    COMPONENT_MEMBERS,
    EXACT_MEMBERS,
    JSON,
    META,
    POSE,
    ROT,
    VISIBLE,
    Layout,
    array_layouts,
    sample_key,
)
from loaders.format.shard_set import check_shard
from loaders.preprocessing import Preprocessing
from tools.parallel import Progress
from tools.sharding.samples import encode_component, encode_image_of, stored_pose
from tools.sources import FrameError, Recording, Source
from tools.sources.defects import distance_defect
from tools.sources.opening import read_component, read_labels

_BLOCK: Final = 8
"""Side of the squares in which JPEGs are compared (pixels)."""
_LARGEST_MEAN: Final = 3.0
"""How far two JPEGs of one image may differ on average (gray levels): codecs of another version round otherwise."""
_LARGEST_BLOCK_MEAN: Final = 16.0
"""The same within a block; another frame differs by more where anything has moved (gray levels)."""

_TEXTS: Final = {"json": JSON, "rot": ROT}
"""Components that are no images, and their members."""

FrameName = tuple[str, str, int]
"""Subject, environment, frame number."""


class Frame(NamedTuple):
    """A frame of a dataset."""

    source: Source
    recording: Recording
    number: int


@dataclass(frozen=True)
class CheckJob:
    """A shard, and how to check it."""

    folder: Path
    """Folder of the split."""
    shard: Shard
    manifest: Manifest
    deep: bool
    """Decode every image, and compare it with the dataset's."""
    source: Source | None = None
    """The dataset to compare with; None compares nothing."""
    recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)
    """Its recordings by (subject, environment)."""


@dataclass(frozen=True)
class Check:
    """What was found in a shard."""

    findings: tuple[str, ...]
    frames: tuple[FrameName, ...]
    """The frames it holds."""


def check_shard_file(job: CheckJob, progress: Progress) -> Check:
    """Check a shard, its index and its samples."""
    cv2.setNumThreads(1)  # every core has a process of its own
    path = job.folder / job.shard.name
    findings: list[str] = []
    frames: list[FrameName] = []
    try:
        check_shard(job.folder, job.shard, checksum=True)
        index = read_index(job.folder / index_name(job.shard.name), job.shard)
    except InputError as error:
        progress.add(job.shard.samples)
        return Check((str(error),), ())
    expected = job.manifest.members
    if list(index.members) != expected:
        findings.append(f"{path}: samples hold {list(index.members)}, the manifest's options say {expected}")
    data = np.memmap(path, np.uint8, "r")
    try:
        compare_headers(path, data, index, range(job.shard.samples))
    except InputError as error:
        findings.append(str(error))
    for row, sample in enumerate(index.spans.tolist()):
        key = index.keys[row].decode()
        contents = {
            name: data[offset : offset + size].tobytes()
            for name, (offset, size) in zip(index.members, sample, strict=True)
        }
        frame, said = _check_sample(job, contents)
        if frame:
            frames.append(frame)
            if key != sample_key(*frame):
                said.append(f"its labels belong to {sample_key(*frame)}")
        findings += [f"{path}: {key}: {finding}" for finding in said]
        progress.add(1)
    return Check(tuple(findings), tuple(frames))


def _check_sample(job: CheckJob, contents: dict[str, bytes]) -> tuple[FrameName | None, list[str]]:
    """Return which frame a sample is, and what is wrong with it."""
    try:
        manifest = job.manifest
        layouts = array_layouts(len(manifest.skeleton))
        pose, meta = (_read_array(contents[name], layouts[name]) for name in (POSE, META))
        subject, environment, number, action = meta.tolist()
        frame = manifest.subjects[subject], manifest.environments[environment], number
        action_name = manifest.actions[action]
    except (KeyError, IndexError, ValueError) as error:
        return None, [f"its labels cannot be read ({error})"]
    findings = []
    if not np.isfinite(pose).all():
        findings.append("pose.npy holds values that are not finite")
    elif far := distance_defect(pose[:, 2:]):
        findings.append(f"{far}: `python -m tools.validate --dataset DATASET --prune ASIDE`, then tools.shard again")
    else:
        findings += _other_visibility(contents, pose, manifest)
    if job.deep:
        findings += _undecodable(contents, manifest)
    if job.source is not None:
        recording = job.recordings.get(frame[:2])
        if recording is None:
            findings.append("the dataset has no such recording")
        else:
            theirs = Frame(job.source, recording, number)
            findings += _foreign_labels(theirs, contents, pose, action_name, manifest.preprocessing)
            if job.deep:
                findings += _foreign_images(theirs, contents, manifest)
    return frame, findings


def _other_visibility(contents: dict[str, bytes], pose: NDArray[np.float32], manifest: Manifest) -> Iterator[str]:
    """Yield whether a sample's visibility is another than its pose and the camera say."""
    if VISIBLE not in contents:
        return  # of version 2, or reported with the members
    try:
        visible = _read_array(contents[VISIBLE], array_layouts(len(manifest.skeleton))[VISIBLE])
    except ValueError as error:
        yield f"{VISIBLE}: {error}"
        return
    if not np.array_equal(visible, manifest.preprocessing.visibility(pose)):
        yield "its visibility is not that of its pose"


def _foreign_labels(
    frame: Frame, contents: dict[str, bytes], pose: NDArray[np.float32], action: str, preprocessing: Preprocessing
) -> Iterator[str]:
    """Yield what of a sample's JSON, rotations, pose and action is another than the dataset's."""
    try:
        labels = read_labels(*frame)
        texts = {member: read_component(*frame, name) for name, member in _TEXTS.items() if member in contents}
    except FrameError as reason:
        yield f"the dataset's frame has {reason}"
        return
    for member, text in texts.items():
        if contents[member] != text:
            yield f"its {member} is not the dataset's"
    if not np.allclose(pose, stored_pose(labels, preprocessing), rtol=1e-6, atol=1e-4):
        yield "its pose is not the dataset's"
    if action != labels.action:
        yield f"its action is {action}, the dataset's {labels.action}"


def _undecodable(contents: dict[str, bytes], manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with a sample's images by themselves."""
    size = manifest.camera.height, manifest.camera.width
    for name in (manifest.image_member, *EXACT_MEMBERS):
        if name not in contents:
            continue
        if name.endswith(".npy"):
            try:
                _read_array(contents[name], Layout("|u1", (*size, 3)))
            except ValueError as error:
                yield f"{name}: {error}"
            continue
        image = _decode(contents[name])
        if image is None:
            yield f"{name} cannot be decoded"
        elif image.shape[:2] != size:
            yield f"{name} is {image.shape[1]}x{image.shape[0]}, not {size[1]}x{size[0]}"


def _foreign_images(frame: Frame, contents: dict[str, bytes], manifest: Manifest) -> Iterator[str]:
    """Make a sample's images anew out of the dataset's frame, and yield which are others."""
    preprocessing = manifest.preprocessing
    for component, name in {"rgba": manifest.image_member, **COMPONENT_MEMBERS}.items():
        if name not in contents or name in _TEXTS.values():
            continue
        try:
            if component == "rgba":
                expected = encode_image_of(*frame, preprocessing)
            else:
                expected = encode_component(*frame, component, preprocessing)
        except FrameError as reason:
            yield f"the dataset's frame has {reason}"
            continue
        # another version of a codec may write other bytes for the same image: what differs is decoded
        if contents[name] != expected and (preprocessing.format == "source" or _differ(name, contents[name], expected)):
            yield f"its {name} is not the dataset's"


def _differ(name: str, stored: bytes, expected: bytes) -> bool:
    one, other = _decode(stored), _decode(expected)
    if one is None or other is None:
        return False  # reported by `_undecodable`
    if one.shape != other.shape or one.dtype != other.dtype:
        return True
    if name in EXACT_MEMBERS:
        return not np.array_equal(one, other)
    distance = cv2.absdiff(one, other).astype(np.float32)
    if not name.endswith(".jpg"):
        return bool(distance.max() > 1)  # where an average lies between two levels, rounding decides
    blocks = [max(1, side // _BLOCK) for side in distance.shape[1::-1]]
    worst = cv2.resize(distance.mean(axis=2), blocks, interpolation=cv2.INTER_AREA).max()
    return bool(distance.mean() > _LARGEST_MEAN or worst > _LARGEST_BLOCK_MEAN)


def _decode(content: bytes) -> NDArray[Any] | None:
    try:
        if content.startswith(b"\x93NUMPY"):
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, ValueError):
        return None


def _read_array(content: bytes, layout: Layout) -> NDArray[Any]:
    """Decode a .npy member. Raises ValueError if it is not of this type and shape."""
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype != layout.dtype or array.shape != layout.shape:
        raise ValueError(f"{array.dtype} {array.shape}, not {np.dtype(layout.dtype)} {layout.shape}")
    return array
