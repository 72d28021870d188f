"""Which frames become samples, and in which order."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loaders.epoch_order import epoch_order
from loaders.errors import InputError
from loaders.format.manifest import SkippedFrame
from loaders.format.sample import META_SHAPE, sample_key
from tools.parallel import Meter, Progress, over_processes
from tools.sources import SPLITS, FrameError, Recording, Source
from tools.sources.defects import distance_defect, key_defect, number_defect
from tools.sources.opening import find_recordings, read_labels, survey

Order = Literal["random", "recording"]


@dataclass(frozen=True)
class SplitPlan:
    """The samples of one split."""

    recordings: dict[tuple[int, int], Recording]
    """Recordings by (subject, environment), as in the rows."""
    rows: NDArray[np.int32]
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
    generated: bool
    """Whether ``tools.synthesize`` made any of them."""

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with any sample, their order, and the skipped frames."""
        lists = [self.subjects, self.environments, self.actions, list(self.splits)]
        skipped = [[asdict(frame) for frame in split.skipped] for split in self.splits.values()]
        text = hashlib.sha256(json.dumps([lists, skipped]).encode())
        for split in self.splits.values():
            text.update(split.rows.astype("<i4").tobytes())
        return text.hexdigest()[:16]


@dataclass(frozen=True)
class _Scan:
    """What was found in one recording."""

    recording: Recording
    actions: dict[int, str]
    """The action of each usable frame."""
    skipped: tuple[SkippedFrame, ...]
    notes: Counter[str]
    """How many of the frames are unusual in which way."""
    generated: bool
    """Whether any usable frame was generated."""


def make_plan(
    source: Source,
    splits: Sequence[str],
    subjects: Sequence[str],
    components: Sequence[str],
    *,
    order: Order,
    seed: int,
    workers: int,
) -> Plan:
    """Read every frame's labels and put the usable frames of each split into a random order, all or by recordings.

    Raises InputError if the dataset is absent or empty, or if two recordings would share their keys.
    """
    recordings = find_recordings(source, splits, subjects)
    scan = functools.partial(_scan, source, components=tuple(components))
    with Meter(len(recordings), "recording", "reading labels") as meter:
        scans = over_processes(scan, recordings, workers, meter)
    subject_index = _index(recording.subject for recording in recordings)
    environment_index = _index(recording.name for recording in recordings)
    action_index = _index(action for scan in scans for action in scan.actions.values())
    planned = {}
    for number, split in enumerate(SPLITS):
        mine = [scan for scan in scans if scan.recording.split == split]
        if mine:
            frames = sum(len(scan.actions) for scan in mine)
            # training takes epochs 0, 1, ... of the same function; negative ones are for the order in shards
            turns = epoch_order(seed, -1 - number, len(mine) if order == "recording" else frames)
            if order == "recording":
                mine, turns = [mine[turn] for turn in turns], np.arange(frames)
            planned[split] = _plan_split(mine, subject_index, environment_index, action_index, turns)
    notes = sum((scan.notes for scan in scans), Counter[str]())
    generated = any(scan.generated for scan in scans)
    return Plan(tuple(subject_index), tuple(environment_index), tuple(action_index), planned, notes, generated)


def reasons(skipped: Iterable[SkippedFrame]) -> str:
    """Return how many frames were skipped for which reason, the most frequent first."""
    counts = Counter(frame.reason.partition(":")[0] for frame in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _plan_split(
    scans: Sequence[_Scan],
    subjects: dict[str, int],
    environments: dict[str, int],
    actions: dict[str, int],
    order: NDArray[np.int64],
) -> SplitPlan:
    owners: dict[str, Recording] = {}
    recordings = {}
    rows: list[tuple[int, int, int, int]] = []
    for scan in scans:
        recording = scan.recording
        key = sample_key(recording.subject, recording.name, 0)
        if scan.actions and owners.setdefault(key, recording) != recording:
            paths = f"{owners[key].path} and {recording.path}"
            raise InputError(f"{paths} would share the keys {key[:-6]}*: rename one of the folders")
        subject, environment = subjects[recording.subject], environments[recording.name]
        recordings[subject, environment] = recording
        rows += [(subject, environment, frame, actions[action]) for frame, action in scan.actions.items()]
    table = np.array(rows, np.int32).reshape(-1, *META_SHAPE)
    return SplitPlan(recordings, table[order], tuple(frame for scan in scans for frame in scan.skipped))


def _scan(source: Source, recording: Recording, progress: Progress, *, components: Sequence[str]) -> _Scan:
    """Check every frame of a recording by its files and its labels, not by its images."""
    generated = False
    actions: dict[int, str] = {}
    skipped = []
    notes = Counter[str]()
    for frame in survey(source, recording, components):
        progress.add(0)
        number = frame.number
        try:
            if reason := frame.defect or key_defect(recording, number) or number_defect(number):
                raise FrameError(reason)
            labels = read_labels(source, recording, number)
        except FrameError as error:
            skipped.append(SkippedFrame(recording.subject, recording.name, number, str(error)))
            continue
        actions[number] = labels.action
        generated = generated or labels.generated
        if far := distance_defect(labels.joints_3d):
            notes[f"{far}: stored, and a finding of tools.verify"] += 1
        if frame.note:
            notes[frame.note] += 1
    progress.add(1)
    return _Scan(recording, actions, tuple(skipped), notes, generated)


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}
