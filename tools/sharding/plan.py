"""Which frames become samples, and in which order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loaders.epoch_order import epoch_order
from loaders.errors import InputError
from loaders.format.manifest import SkippedFrame
from loaders.format.sample import META_SHAPE, sample_key
from tools.dataset.frame_faults import distance_fault, double_fault, name_fault, number_fault
from tools.dataset.frames import PAIRED, FrameError, frame_labels, read_file
from tools.dataset.layout import SET_FOLDERS, LabelError, Recording, find_recordings
from tools.parallel import Meter, Progress, over_processes

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class SplitPlan:
    """The samples of one split."""

    recordings: dict[tuple[int, int], Recording]
    """Recordings by (subject, environment), as in the rows."""
    rows: Rows
    """(n, 4) subject, environment, frame, action of each sample, in the order of the shards."""
    skipped: tuple[SkippedFrame, ...]


@dataclass(frozen=True)
class Plan:
    """The samples of a shard set; the lists give the rows their meaning."""

    subjects: tuple[str, ...]
    environments: tuple[str, ...]
    actions: tuple[str, ...]
    splits: dict[str, SplitPlan]
    notes: Counter[str]
    """How many of the samples are unusual in which way (frames)."""

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with any sample, their order, and the skipped frames."""
        lists = [self.subjects, self.environments, self.actions, list(self.splits)]
        skipped = [[asdict(frame) for frame in split.skipped] for split in self.splits.values()]
        text = hashlib.sha256(json.dumps([lists, skipped]).encode())
        for split in self.splits.values():
            text.update(split.rows.astype("<i4").tobytes())
        return text.hexdigest()[:16]


@dataclass(frozen=True)
class _ScanJob:
    recording: Recording
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class _Scan:
    """What was found in one recording."""

    recording: Recording
    frames: tuple[int, ...]
    actions: tuple[str, ...]
    """The action of each frame."""
    skipped: tuple[SkippedFrame, ...]
    notes: Counter[str]
    """How many of the frames are unusual in which way."""


def make_plan(
    root: Path, splits: Sequence[str], subjects: Sequence[str], components: Sequence[str], *, seed: int, workers: int
) -> Plan:
    """Read every frame's labels and put the usable frames of each split into a global random order.

    Raises InputError if the dataset is absent or empty, or if two recordings would share their keys.
    """
    recordings = find_recordings(root, splits, subjects)
    # the labels come out of the JSON, whether or not it is stored
    modalities = tuple(dict.fromkeys(["json", *components]))
    with Meter(len(recordings), "recording", "reading labels") as meter:
        jobs = [_ScanJob(recording, modalities) for recording in recordings]
        scans = over_processes(_scan, jobs, workers, meter)
    subject_index = _index(recording.subject for recording in recordings)
    environment_index = _index(recording.name for recording in recordings)
    action_index = _index(action for scan in scans for action in scan.actions)
    planned = {}
    for number, split in enumerate(SET_FOLDERS):
        mine = [scan for scan in scans if scan.recording.split == split]
        if mine:
            planned[split] = _plan_split(mine, subject_index, environment_index, action_index, seed=seed, number=number)
    notes = sum((scan.notes for scan in scans), Counter[str]())
    return Plan(tuple(subject_index), tuple(environment_index), tuple(action_index), planned, notes)


def _plan_split(
    scans: Sequence[_Scan],
    subjects: dict[str, int],
    environments: dict[str, int],
    actions: dict[str, int],
    *,
    seed: int,
    number: int,
) -> SplitPlan:
    _check_keys(scans)
    blocks = [np.empty((0, *META_SHAPE), np.int32)]
    recordings = {}
    for scan in scans:
        subject, environment = subjects[scan.recording.subject], environments[scan.recording.name]
        recordings[subject, environment] = scan.recording
        block = np.empty((len(scan.frames), *META_SHAPE), np.int32)
        block[:, :2] = subject, environment
        block[:, 2] = scan.frames
        block[:, 3] = [actions[action] for action in scan.actions]
        blocks.append(block)
    rows = np.concatenate(blocks)
    # training takes epochs 0, 1, ... of the same function; negative ones are for the order in shards
    order = epoch_order(seed, -1 - number, len(rows))
    return SplitPlan(recordings, rows[order], tuple(frame for scan in scans for frame in scan.skipped))


def _check_keys(scans: Sequence[_Scan]) -> None:
    owners: dict[str, Path] = {}
    for scan in (scan for scan in scans if scan.frames):
        key = sample_key(scan.recording.subject, scan.recording.name, 0)
        if key in owners:
            raise InputError(
                f"{owners[key]} and {scan.recording.path} would share the keys {key[:-6]}*: rename one of the folders"
            )
        owners[key] = scan.recording.path


def _scan(job: _ScanJob, progress: Progress) -> _Scan:
    """Check every frame of a recording by its files and its labels, not by its images."""
    recording = job.recording
    # a frame that has a file of another modality only is listed as skipped, too
    files = {modality: recording.all_files(modality) for modality in PAIRED}
    usable: dict[int, str] = {}
    skipped = []
    notes = Counter[str]()
    for frame in sorted(set().union(*files.values())):
        progress.add(0)
        mine = {modality: files[modality].get(frame, []) for modality in job.modalities}
        try:
            _check_files(recording, frame, mine)
            labels = frame_labels(read_file(recording, "json", frame))
        except (FrameError, LabelError) as reason:
            skipped.append(SkippedFrame(recording.subject, recording.name, frame, str(reason)))
            continue
        usable[frame] = labels.action
        if far := distance_fault(labels.joints_3d):
            notes[f"{far}: stored, and a finding of tools.verify"] += 1
        if any(len(paths) > 1 for paths in mine.values()):
            notes["a file of the same content under two names"] += 1
    progress.add(1)
    return _Scan(recording, tuple(usable), tuple(usable.values()), tuple(skipped), notes)


def _check_files(recording: Recording, frame: int, files: dict[str, list[Path]]) -> None:
    """Raise FrameError if a frame lacks a file, or has two that differ, or a name that no sample can have."""
    absent = [f"no {modality} file" for modality, paths in files.items() if not paths]
    faults = [name_fault(recording, frame), number_fault(frame), ", ".join(absent)]
    doubles = [double_fault(modality, paths) for modality, paths in files.items()]
    if found := [fault for fault in (*faults, *doubles) if fault]:
        raise FrameError(", ".join(found))


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}
