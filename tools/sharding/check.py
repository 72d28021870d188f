"""Checking one shard against the manifest, its index, and the dataset it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.format.index import compare_headers, index_name, read_index
from loaders.format.manifest import Manifest, Shard
from loaders.format.sample import JSON, META, META_SHAPE, POSE, POSE_SHAPE, WORLDP, sample_key
from loaders.format.shard_set import check_shard
from models.camera import XR_EGOPOSE, FisheyeCamera
from tools.dataset.frame_faults import distance_fault
from tools.dataset.frames import FrameError, frame_labels, read_file
from tools.dataset.layout import LabelError, Recording
from tools.parallel import Progress
from tools.sharding.image_check import foreign_images, read_array, undecodable

FrameName = tuple[str, str, int]
"""Subject, environment, frame number."""


@dataclass(frozen=True)
class CheckJob:
    """A shard, and how to check it."""

    folder: Path
    """Folder of the split."""
    shard: Shard
    manifest: Manifest
    deep: bool
    """Decode every image, and compare it with the dataset's."""
    recordings: dict[tuple[str, str], Recording] | None
    """The dataset's recordings by (subject, environment), to compare with; None compares nothing."""


@dataclass(frozen=True)
class Check:
    """What was found in a shard."""

    findings: tuple[str, ...]
    frames: tuple[FrameName, ...]
    """The frames it holds."""


def expected_members(manifest: Manifest) -> list[str]:
    """Return the members of every sample, in order."""
    components = manifest.options["components"]
    image = [manifest.image_member] if manifest.image_member else []
    return [
        *image,
        *([JSON] if "json" in components else []),
        *([WORLDP] if "worldp" in components else []),
        POSE,
        META,
    ]


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
    if list(index.members) != expected_members(job.manifest):
        findings.append(
            f"{path}: samples hold {list(index.members)}, the manifest's options say {expected_members(job.manifest)}"
        )
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
        pose, meta = read_array(contents[POSE], "<f4", POSE_SHAPE), read_array(contents[META], "<i4", META_SHAPE)
        subject, environment, number, action = meta.tolist()
        manifest = job.manifest
        frame = manifest.subjects[subject], manifest.environments[environment], number
        action_name = manifest.actions[action]
    except (KeyError, IndexError, ValueError) as error:
        return None, [f"its labels cannot be read ({error})"]
    findings = []
    if not np.isfinite(pose).all():
        findings.append("pose.npy holds values that are not finite")
    elif far := distance_fault(pose[:, 2:]):
        findings.append(f"{far}: `python -m tools.validate --root DATASET --prune ASIDE`, then tools.shard again")
    if job.deep:
        findings += undecodable(contents, manifest)
    if job.recordings is not None:
        recording = job.recordings.get(frame[:2])
        if recording is None:
            findings.append("the dataset has no such recording")
        else:
            findings += _compare_labels(recording, number, contents, (pose, action_name), manifest.camera)
            if job.deep:
                findings += foreign_images(recording, number, contents, manifest)
    return frame, findings


def _compare_labels(
    recording: Recording,
    frame: int,
    contents: dict[str, bytes],
    stored: tuple[NDArray[np.float32], str],
    camera: FisheyeCamera,
) -> Iterator[str]:
    """Compare a sample's JSON, pose and action with the dataset's frame."""
    pose, action = stored
    try:
        text = read_file(recording, "json", frame)
        labels = frame_labels(text)
    except (FrameError, LabelError) as reason:
        yield f"the dataset's frame has {reason}"
        return
    if JSON in contents and contents[JSON] != text:
        yield "its json is not the dataset's"
    expected = np.concatenate([XR_EGOPOSE.transfer(labels.joints_2d, camera), labels.joints_3d], axis=1)
    if not np.allclose(pose, expected, rtol=1e-6, atol=1e-4):
        yield "its pose is not the dataset's"
    if action != labels.action:
        yield f"its action is {action}, the dataset's {labels.action}"
