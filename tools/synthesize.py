"""Generate frames in the dataset's exact layout: a body seen by a head-mounted fisheye camera.

``python -m tools.synthesize --output DATASET --frames-per-subject N``
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.cli.command import OK, Command, command
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from tools.dataset.layout import SET_FOLDERS, SUBJECTS, ReleaseRecording
from tools.dataset.links import link
from tools.parallel import Meter, over_processes
from tools.synthesis.defects import DEFECTS_FILE, FEWEST_FRAMES, plant
from tools.synthesis.writer import FRAMES_PER_TASK, MODALITIES, Modality, Task, write


@dataclass(frozen=True, kw_only=True)
class SynthesizeFlags(Command):
    """Flags of ``tools.synthesize``."""

    output: Path
    """Folder for TrainSet, ValSet and TestSet (path); must not hold any of them yet."""
    frames_per_subject: int
    """Length of each environment of a training subject (frames)."""
    eval_frames: int = 0
    """The same for subjects of the validation and the test split (frames); 0 takes --frames-per-subject."""
    environments: int = 1
    """Number of environments of each subject, env_001 and so on (1 to 999)."""
    subjects: tuple[str, ...] = ()
    """Names of official subjects to take; empty takes as many as the next three flags say."""
    train_subjects: int = len(SUBJECTS["train"])
    """How many of the official training subjects to take (subjects)."""
    val_subjects: int = len(SUBJECTS["val"])
    """How many of the official validation subjects to take (subjects)."""
    test_subjects: int = len(SUBJECTS["test"])
    """How many of the official test subjects to take (subjects)."""
    modalities: tuple[Modality, ...] = MODALITIES
    """Which files to write of each frame."""
    dots: bool = False
    """Paint a dot on each of the 16 joints, exactly at the 2D label, in a color per joint."""
    defects: bool = False
    """Plant defects, including those of the release, and list them in defects.json."""
    seed: int = 0
    """Seed of everything that is drawn (integer from 0)."""
    workers: int = 0
    """Workers that render (processes); 0 takes one per core. The files do not depend on it."""

    def __post_init__(self) -> None:
        """Check the values."""
        counts = {f"{split}_subjects": Range(0, len(names)) for split, names in SUBJECTS.items()}
        lengths = {"frames_per_subject": Range(1), "eval_frames": Range(0), "environments": Range(1, 999)}
        check_ranges(self, "--", **lengths, **counts, seed=Range(0), workers=Range(0))
        if not self.modalities:
            raise InputError("--modalities is empty: name at least one")
        unknown = set(self.subjects) - {name for names in SUBJECTS.values() for name in names}
        if unknown:
            raise InputError(f"--subjects: {', '.join(sorted(unknown))} is not in the dataset's splits")
        if self.defects and min(self.frames_per_subject, self.eval_frames or FEWEST_FRAMES) < FEWEST_FRAMES:
            raise InputError(f"--defects needs at least {FEWEST_FRAMES} frames per subject to plant the defects in")

    def recordings(self) -> Iterator[tuple[ReleaseRecording, int, int]]:
        """Yield each recording, the number of its environment, and its length (frames)."""
        for split, names in SUBJECTS.items():
            chosen = [name for name in names if name in self.subjects]
            frames = self.frames_per_subject if split == "train" else self.eval_frames or self.frames_per_subject
            for subject in chosen if self.subjects else names[: getattr(self, f"{split}_subjects")]:
                for number in range(1, self.environments + 1):
                    name = f"env_{number:03d}"
                    path = self.output / SET_FOLDERS[split] / subject / name / "cam_down"
                    yield ReleaseRecording(split, subject, name, path), number, frames

    def tasks(self) -> list[Task]:
        """Divide the recordings among tasks."""
        return [
            Task(
                recording=recording,
                number=number,
                frames=frames,
                first=first,
                last=min(first + FRAMES_PER_TASK - 1, frames),
                modalities=tuple(name for name in self.modalities if number == 1 or name != "rot"),
                seed=self.seed,
                dots=self.dots,
            )
            for recording, number, frames in self.recordings()
            for first in range(1, frames + 1, FRAMES_PER_TASK)
        ]


@command("tools.synthesize", "Generate frames in the layout of the xR-EgoPose dataset.")
def main(flags: SynthesizeFlags) -> int:
    """Write the dataset."""
    for folder in SET_FOLDERS.values():
        if (flags.output / folder).exists():
            raise InputError(f"{flags.output / folder} exists already: choose a new --output or remove it")
    tasks = flags.tasks()
    if not tasks:
        raise InputError("no subjects chosen: see --subjects, --train-subjects")
    for task in tasks:
        for modality in task.modalities:
            (task.recording.path / modality).mkdir(parents=True, exist_ok=True)
    workers = flags.workers or available_cores()
    total = sum(task.last - task.first + 1 for task in tasks)
    with Meter(total, "frame", "synthesize") as meter:
        over_processes(write, tasks, workers, meter)
        rate = total / meter.seconds
    if "rot" in flags.modalities:
        _share_rotations(flags)
    sys.stdout.write(f"{total} frames written to {flags.output}: {rate:.1f} frames/s with {workers} workers\n")
    if flags.defects:
        defects = plant(flags.output)
        sys.stdout.write(f"{len(defects)} defects planted, listed in {flags.output / DEFECTS_FILE}\n")
    return OK


def _share_rotations(flags: SynthesizeFlags) -> None:
    """Let the later environments of a subject share the first one's rotations, as in the release.

    They get a link, or a copy where the file system has no links.
    """
    for recording, number, _ in flags.recordings():
        if number > 1:
            rotations = recording.path / "rot"
            rotations.parent.mkdir(parents=True, exist_ok=True)
            first = "../../env_001/cam_down/rot"
            if not link(rotations, first):
                shutil.copytree(rotations.parent / first, rotations)


if __name__ == "__main__":
    sys.exit(main())
