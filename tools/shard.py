"""Turn the dataset into a shard set: ``python -m tools.shard --root DATASET --output SHARDS``."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from engine.cli.command import OK, Command, command
from loaders.codecs import decode
from loaders.errors import Failure, InputError
from loaders.format import manifest
from loaders.format.manifest import Manifest, SkippedFrame, Split
from loaders.format.shard_set import ShardSet, image_data
from loaders.image_circle import Circle, find_circle
from loaders.preprocessing import Format, Preprocessing, center_square
from loaders.system.cores import available_cores
from loaders.system.disk import DiskFullError, in_words
from loaders.system.files import remove_partials, write_whole
from models.camera import XR_EGOPOSE
from tools.dataset.frames import SampleFormat
from tools.parallel import Meter, over_cluster, over_processes
from tools.sharding import resume_state as unfinished
from tools.sharding.estimate import estimate
from tools.sharding.plan import Plan, make_plan
from tools.sharding.resume_state import ShardResult
from tools.sharding.writer import GO_ON, ShardJob, write_shard

Component = Literal["rgba", "json", "worldp"]
SplitName = Literal["train", "val", "test"]

_CIRCLE_IMAGES: Final = 256
"""Stored images in which the image circle is looked for (images)."""


@dataclass(frozen=True, kw_only=True)
class ShardFlags(Command):
    """Flags of ``tools.shard``."""

    root: Path
    """Folder of the dataset, with TrainSet, ValSet, TestSet."""
    output: Path
    """Folder of the shard set; an unfinished one made with the same options is gone on with."""
    components: tuple[Component, ...] = ("rgba", "json", "worldp")
    """What a sample holds beside its labels."""
    image_format: Format = "jpeg"
    """Form of the images: raw needs no decoding, source keeps the dataset's own files, 1280x800."""
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
    """What to do about an unusable frame: leave it out and list it in the manifest, or stop."""
    workers: int = 0
    """Cores to use (cores); 0 takes all."""
    scheduler: str = ""
    """Address of a Dask scheduler, such as tcp://host:8786, whose workers see the same folders and write the shards;
    empty stays on this machine."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least, most in (
            ("image_size", 32, 4096),
            ("quality", 1, 100),
            ("samples_per_shard", 1, 1_000_000),
            ("seed", 0, 2**62),
            ("workers", 0, 4096),
        ):
            if not least <= (value := getattr(self, name)) <= most:
                raise InputError(f"--{name.replace('_', '-')} is {value}: give {least} to {most}")


@command("tools.shard", "Turn the dataset into webdataset tar shards with DALI indices and a manifest.")
def main(flags: ShardFlags) -> int:
    """Write the shard set."""
    workers = flags.workers or available_cores()
    components = tuple(name for name in ("rgba", "json", "worldp") if name in flags.components)
    preprocessing = Preprocessing.of(flags.image_format, flags.image_size, flags.quality, XR_EGOPOSE)
    sample_format = SampleFormat(components, preprocessing)
    plan = make_plan(flags.root, flags.split, flags.subjects, components, seed=flags.seed, workers=workers)
    _check_plan(flags, plan)
    for note, frames in plan.notes.items():
        sys.stdout.write(f"note: {frames} frames with {note}; `python -m tools.validate` lists them\n")
    options = _options(flags, sample_format, plan)
    with unfinished.at_work(flags.output):
        finished = unfinished.begin(flags.output, options, preprocessing)
        if finished:
            sys.stdout.write(f"{flags.output} is finished already; `python -m tools.verify` checks it\n")
        else:
            _write(flags, sample_format, plan, options, workers)
        unfinished.end(flags.output)
    return OK


def _check_plan(flags: ShardFlags, plan: Plan) -> None:
    skipped = [frame for split in plan.splits.values() for frame in split.skipped]
    if skipped and flags.on_defect == "fail":
        first = skipped[0]
        raise InputError(
            f"{len(skipped)} frames cannot be used, the first is {first.subject} {first.environment} "
            f"{first.frame}: {first.reason}; `python -m tools.validate` lists all, --on-defect skip leaves them out"
        )
    if not any(len(split.rows) for split in plan.splits.values()):
        found = f"none of its {len(skipped)} frames can be used: {_reasons(skipped)}" if skipped else "it has no frames"
        raise InputError(f"{flags.root}: {found}; --components leaves out what was not extracted")


def _options(flags: ShardFlags, sample_format: SampleFormat, plan: Plan) -> dict[str, Any]:
    """Return what determines the bytes beside the preprocessing, as it stands in the manifest."""
    return {
        "components": list(sample_format.components),
        "samples_per_shard": flags.samples_per_shard,
        "seed": flags.seed,
        "splits": list(plan.splits),
        "subjects": sorted(set(flags.subjects)),
        "frames": plan.digest(),
    }


def _write(flags: ShardFlags, sample_format: SampleFormat, plan: Plan, options: dict[str, Any], workers: int) -> None:
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
            needed = in_words(samples * expected.bytes_per_sample)
            raise Failure(f"{error}: the {samples} samples to come take about {needed}: make room, {GO_ON}") from None
    splits = {name: _split(plan, [(job, done[job.name]) for job in jobs], name) for name in plan.splits}
    preprocessing, lists = sample_format.preprocessing, (plan.subjects, plan.environments, plan.actions)
    content = Manifest(options, preprocessing, preprocessing.camera(XR_EGOPOSE), *lists, splits)
    preprocessing = dataclasses.replace(preprocessing, image_circle=_image_circle(flags.output, content))
    content = dataclasses.replace(content, preprocessing=preprocessing)
    remove_partials(flags.output)  # a cluster's lost workers leave theirs behind
    write_whole(flags.output / manifest.FILE_NAME, content.to_json().encode())
    _summarize(flags.output, splits, meter)


def _image_circle(output: Path, content: Manifest) -> Circle | None:
    """Return the circle that the stored images show: of the same bytes the same one. None for a set without images."""
    split = next(name for name, split in content.splits.items() if split.samples)
    if content.image_member is None:
        return None
    shard_set = ShardSet(output, split, manifest=content)
    # samples are in random order: these are a fair choice
    indices = np.linspace(0, len(shard_set) - 1, min(_CIRCLE_IMAGES, len(shard_set))).astype(np.int64)
    members = image_data(shard_set, indices, content.image_member)
    images = (data if data.ndim == 3 else decode(data) for data in members)
    return find_circle(center_square(image) for image in images if image is not None)


def _write_shards(flags: ShardFlags, jobs: Sequence[ShardJob], workers: int, meter: Meter) -> dict[str, ShardResult]:
    """Write shards here or on the cluster; return their results by name."""
    if not flags.scheduler:
        return {result.shard.name: result for result in over_processes(write_shard, jobs, workers, meter)}
    done = {}
    for place, result in over_cluster(write_shard, jobs, flags.scheduler):
        done[result.shard.name] = result
        meter.add(len(jobs[place].rows), result.shard.bytes)
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
    result = unfinished.recall(flags.output, job.split, job.name)
    # whoever stops at defects mends them before going on: what was left out is looked at again
    return None if result and result.skipped and flags.on_defect == "fail" else result


def _split(plan: Plan, results: Sequence[tuple[ShardJob, ShardResult]], name: str) -> Split:
    mine = [result for job, result in results if job.split == name]
    skipped = [*plan.splits[name].skipped, *(frame for result in mine for frame in result.skipped)]
    return Split(
        # a shard that lost all its frames on decoding was not written
        tuple(result.shard for result in mine if result.shard.samples),
        tuple(sorted(skipped, key=lambda frame: (frame.subject, frame.environment, frame.frame))),
    )


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
        sys.stdout.write(f"left out, listed in {manifest.FILE_NAME}: {len(skipped)} frames: {_reasons(skipped)}\n")


def _reasons(skipped: Sequence[SkippedFrame]) -> str:
    counts = Counter(frame.reason.partition(":")[0] for frame in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
