"""Turn the dataset into a shard set: ``python -m tools.shard --dataset DATASET --output SHARDS``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from engine.cli.command import OK, Command, command
from loaders.errors import Failure, InputError
from loaders.format.manifest import FILE_NAME, SkippedFrame, Split
from loaders.preprocessing import Format, Preprocessing
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.files import remove_partials, write_whole
from loaders.system.os_errors import DiskFullError, format_bytes
from models.camera import XR_EGOPOSE
from tools.dataset.frames import SampleFormat
from tools.parallel import Meter, over_cluster, over_processes
from tools.sharding import resume_state
from tools.sharding.describe import describe
from tools.sharding.estimate import estimate
from tools.sharding.plan import Plan, make_plan
from tools.sharding.resume_state import ShardResult
from tools.sharding.writer import GO_ON, ShardJob, write_shard

Component = Literal["rgba", "json", "worldp"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class ShardFlags(Command):
    """Flags of ``tools.shard``."""

    dataset: Annotated[Path, tyro.conf.arg(aliases=("--root",))]
    """Folder of the dataset, with TrainSet, ValSet, TestSet."""
    output: Path
    """Folder of the shard set; one that a run with the same options left unfinished is continued."""
    components: tuple[Component, ...] = ("rgba", "json", "worldp")
    """What a sample holds beside its labels."""
    image_format: Format = "jpeg"
    """How images are stored: raw needs no decoding, source keeps the dataset's own files, 1280x800."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    quality: int = 95
    """JPEG quality (1 to 100)."""
    samples_per_shard: int = 4096
    """Size of a shard (samples)."""
    seed: int = 0
    """Seed of the order of samples (integer)."""
    split: tuple[SplitName, ...] = ("train", "val", "test")
    """Splits to take."""
    subjects: tuple[str, ...] = ()
    """Subjects to take; none named takes all."""
    on_defect: Literal["skip", "fail"] = "skip"
    """What to do about an unusable frame: skip it and list it in the manifest, or stop."""
    workers: int = 0
    """Cores to use (cores); 0 takes all."""
    scheduler: str = ""
    """Address of a Dask scheduler, such as tcp://host:8786, whose workers see the same folders and write the shards;
    empty stays on this machine."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            self,
            image_size=Range(32, 4096),
            quality=Range(1, 100),
            samples_per_shard=Range(1, 1_000_000),
            seed=Range(0, 2**62),
            workers=Range(0, 4096),
        )


@command("tools.shard", "Turn the dataset into webdataset tar shards with DALI indices and a manifest.")
def main(flags: ShardFlags) -> int:
    """Write the shard set."""
    workers = flags.workers or available_cores()
    components = tuple(name for name in get_args(Component) if name in flags.components)
    preprocessing = Preprocessing.of(flags.image_format, flags.image_size, flags.quality, XR_EGOPOSE)
    plan = make_plan(flags.dataset, flags.split, flags.subjects, components, seed=flags.seed, workers=workers)
    _check_plan(flags, plan)
    for note, frames in plan.notes.items():
        sys.stdout.write(f"note: {frames} frames with {note}; `python -m tools.validate` lists them\n")
    options = {
        "components": list(components),
        "samples_per_shard": flags.samples_per_shard,
        "seed": flags.seed,
        "splits": list(plan.splits),
        "subjects": sorted(set(flags.subjects)),
        "frames": plan.digest(),
    }
    with resume_state.sole_writer(flags.output):
        if resume_state.prepare(flags.output, options, preprocessing):
            sys.stdout.write(f"{flags.output} is finished already; `python -m tools.verify` checks it\n")
        else:
            _write(flags, options, SampleFormat(components, preprocessing), plan)
        resume_state.discard(flags.output)
    return OK


def _check_plan(flags: ShardFlags, plan: Plan) -> None:
    skipped = [frame for split in plan.splits.values() for frame in split.skipped]
    if skipped and flags.on_defect == "fail":
        first = skipped[0]
        raise InputError(
            f"{len(skipped)} frames cannot be used, the first is {first.subject} {first.environment} "
            f"{first.frame}: {first.reason}; `python -m tools.validate` lists all, --on-defect skip skips them"
        )
    if not any(len(split.rows) for split in plan.splits.values()):
        found = f"none of its {len(skipped)} frames can be used: {_reasons(skipped)}" if skipped else "it has no frames"
        raise InputError(f"{flags.dataset}: {found}; --components leaves out what was not extracted")


def _write(flags: ShardFlags, options: dict[str, Any], sample_format: SampleFormat, plan: Plan) -> None:
    """Write the shards that are not there yet, then the manifest."""
    workers = flags.workers or available_cores()
    jobs = _jobs(flags, sample_format, plan)
    done = {job.name: result for job in jobs if (result := _finished(flags, job))}
    remaining = [job for job in jobs if job.name not in done]
    expected = estimate(remaining)
    if remaining:
        expected.announce(flags.output, None if flags.scheduler else min(workers, len(remaining)))
    with Meter(expected.samples, "frame", "sharding") as meter:
        try:
            done |= _write_shards(flags, remaining, workers, meter)
        except DiskFullError as error:
            samples = sum(len(job.rows) for job in jobs if not _finished(flags, job))
            needed = format_bytes(samples * expected.bytes_per_sample)
            raise Failure(f"{error}: the {samples} samples to come take about {needed}: make room, {GO_ON}") from None
    results = {name: [done[job.name] for job in jobs if job.split == name] for name in plan.splits}
    manifest = describe(flags.output, options, sample_format.preprocessing, plan, results)
    remove_partials(flags.output)  # a cluster's lost workers leave theirs behind
    write_whole(flags.output / FILE_NAME, manifest.to_json().encode())
    _summarize(flags.output, manifest.splits, meter)


def _write_shards(flags: ShardFlags, jobs: Sequence[ShardJob], workers: int, meter: Meter) -> dict[str, ShardResult]:
    """Write shards here or on the cluster; return their results by name."""
    if not flags.scheduler:
        return {result.shard.name: result for result in over_processes(write_shard, jobs, workers, meter)}
    done = {}
    for number, result in over_cluster(write_shard, jobs, flags.scheduler):
        done[result.shard.name] = result
        meter.add(len(jobs[number].rows), result.shard.bytes)
    return done


def _jobs(flags: ShardFlags, sample_format: SampleFormat, plan: Plan) -> list[ShardJob]:
    size = flags.samples_per_shard
    return [
        ShardJob(
            output=flags.output,
            split=name,
            name=f"{name}-{first // size:06d}.tar",
            recordings=split.recordings,
            rows=split.rows[first : first + size],
            sample_format=sample_format,
            stop_at_defect=flags.on_defect == "fail",
        )
        for name, split in plan.splits.items()
        for first in range(0, len(split.rows), size)
    ]


def _finished(flags: ShardFlags, job: ShardJob) -> ShardResult | None:
    result = resume_state.load_result(flags.output, job.split, job.name)
    # who stops at defects mends them and runs again: shards with skipped frames are made anew
    return None if result and result.skipped and flags.on_defect == "fail" else result


def _summarize(output: Path, splits: dict[str, Split], meter: Meter) -> None:
    shards = [shard for split in splits.values() for shard in split.shards]
    counts = ", ".join(f"{split.samples} {name}" for name, split in splits.items())
    sys.stdout.write(
        f"{output}: {counts} samples in {len(shards)} shards, {sum(shard.bytes for shard in shards) / 1e6:.1f} MB; "
        f"{meter.units / meter.seconds:.1f} frames/s, {meter.bytes / 1e6 / meter.seconds:.1f} MB/s, "
        f"{meter.seconds:.1f} s\n"
    )
    skipped = [frame for split in splits.values() for frame in split.skipped]
    if skipped:
        sys.stdout.write(f"skipped, listed in {FILE_NAME}: {len(skipped)} frames: {_reasons(skipped)}\n")


def _reasons(skipped: Sequence[SkippedFrame]) -> str:
    counts = Counter(frame.reason.partition(":")[0] for frame in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
