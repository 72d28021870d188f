"""Check a shard set against its manifest: ``python -m tools.verify --shards SHARDS``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from engine.cli.command import CHECK_FAILED, OK, Command, command
from loaders.errors import InputError, printable
from loaders.format.index import index_name
from loaders.format.manifest import Manifest, Split
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from tools.dataset.source import XR_EGOPOSE
from tools.parallel import Meter, over_processes
from tools.sharding.check import Check, CheckJob, FrameName, check_shard_file
from tools.sources import Recording, Source
from tools.sources.opening import find_recordings, open_source, survey


@dataclass(frozen=True, kw_only=True)
class VerifyFlags(Command):
    """Flags of ``tools.verify``."""

    shards: Path
    """Folder of the shard set (path)."""
    deep: bool = False
    """Decode every image; with --dataset, make it anew from the dataset's frame and compare."""
    dataset: Annotated[Path | None, tyro.conf.arg(aliases=("--root",))] = None
    """Folder of the dataset that the shards were made of (path): labels are compared, and every frame is looked for."""
    source: str = XR_EGOPOSE
    """Class that reads the dataset, as tools.shard had it."""
    workers: int = 0
    """Workers that check shards (processes); 0 takes one per core."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", workers=Range(0))


@command("tools.verify", "Check a shard set: checksums, counts, indices, labels; exit status 1 if anything is wrong.")
def main(flags: VerifyFlags) -> int:
    """Check every shard and write one line per finding."""
    manifest = Manifest.read(flags.shards)
    if flags.source != XR_EGOPOSE and not flags.dataset:
        raise InputError("--source says how the dataset is read, and none is given: add --dataset, or drop it")
    source = _open(flags.source, flags.dataset, manifest) if flags.dataset else None
    recordings = _recordings(source, manifest) if source else None
    jobs = [
        CheckJob(
            folder=flags.shards / name,
            shard=shard,
            manifest=manifest,
            deep=flags.deep,
            source=source,
            recordings=recordings[name] if recordings else {},
        )
        for name, split in manifest.splits.items()
        for shard in split.shards
    ]
    samples = sum(split.samples for split in manifest.splits.values())
    with Meter(samples, "sample", "verifying") as meter:
        checks = over_processes(check_shard_file, jobs, flags.workers or available_cores(), meter)
    findings = [finding for check in checks for finding in check.findings]
    for name, split in manifest.splits.items():
        mine = [check for job, check in zip(jobs, checks, strict=True) if job.folder.name == name]
        findings += _split_findings(flags.shards / name, split, mine)
        if source and recordings:
            findings += _missing_frames(flags.shards / name, split, mine, source, recordings[name].values())
    sys.stdout.write("".join(f"{printable(finding)}\n" for finding in findings))
    verdict = f"{len(findings)} findings" if findings else "nothing is wrong"
    sys.stdout.write(f"{flags.shards}: {samples} samples in {len(jobs)} shards: {verdict}\n")
    return CHECK_FAILED if findings else OK


def _open(name: str, root: Path, manifest: Manifest) -> Source:
    """Return the dataset. Raises InputError if the shards are of another one."""
    source = open_source(name, root)
    theirs = (source.name, source.skeleton, source.camera)
    if theirs != (manifest.dataset, manifest.skeleton, manifest.preprocessing.frame):
        raise InputError(
            f"the shards are of {manifest.dataset}, and --source {name} reads {source.name}, with another skeleton or "
            "camera: give the source that tools.shard had"
        )
    return source


def _recordings(source: Source, manifest: Manifest) -> dict[str, dict[tuple[str, str], Recording]]:
    found = find_recordings(source, tuple(manifest.splits), manifest.options["subjects"])
    return {
        split: {(recording.subject, recording.name): recording for recording in found if recording.split == split}
        for split in manifest.splits
    }


def _split_findings(folder: Path, split: Split, checks: Sequence[Check]) -> Iterator[str]:
    """Yield what no shard can see alone."""
    for frame, count in Counter(frame for check in checks for frame in check.frames).items():
        if count > 1:
            yield f"{folder}: {_name(frame)} is stored {count} times"
    known = {name for shard in split.shards for name in (shard.name, index_name(shard.name))}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known and not path.name.startswith("."):
            yield f"{path} is not in the manifest"


def _missing_frames(
    folder: Path, split: Split, checks: Sequence[Check], source: Source, recordings: Iterable[Recording]
) -> Iterator[str]:
    """Yield frames of the dataset that are neither stored nor listed."""
    if any(len(check.frames) < shard.samples for check, shard in zip(checks, split.shards, strict=True)):
        return  # all frames of a shard that cannot be read would be called missing
    stored = {frame for check in checks for frame in check.frames}
    skipped = {(frame.subject, frame.environment, frame.frame) for frame in split.skipped}
    for recording in recordings:
        for number in (listed.number for listed in survey(source, recording, ())):
            frame = recording.subject, recording.name, number
            if frame not in stored and frame not in skipped:
                yield f"{folder}: {_name(frame)} is in the dataset, but neither stored nor listed as skipped"


def _name(frame: FrameName) -> str:
    return "{} {} {:06d}".format(*frame)


if __name__ == "__main__":
    sys.exit(main())
