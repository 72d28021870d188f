"""Turn the dataset into a shard set: ``python -m tools.shard --dataset DATASET --output SHARDS``."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
import tyro

from engine.cli.command import OK, Command, command
from loaders.codecs import decode
from loaders.errors import Failure, InputError
from loaders.format.manifest import FILE_NAME, Manifest, SkippedFrame, Split
from loaders.format.shard_set import ShardSet, image_data
from loaders.preprocessing import Circle, Format, Preprocessing, center_square, find_circle
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.files import remove_partials, write_whole
from loaders.system.os_errors import DiskFullError, format_bytes
from models.camera import XR_EGOPOSE
from tools.parallel import Meter, over_cluster, over_processes
from tools.sharding import resume_state
from tools.sharding.plan import Plan, make_plan
from tools.sharding.resume_state import ShardResult
from tools.sharding.writer import GO_ON, ShardJob, estimate, write_shard

logger = logging.getLogger(__name__)

_CIRCLE_IMAGES: Final = 256
"""Stored images in which the image circle is looked for (images)."""

Component = Literal["rgba", "json", "worldp"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class ShardFlags(Command):
    """Flags of ``tools.shard``."""

    dataset: Annotated[Path, tyro.conf.arg(aliases=("--root",))]
    """Folder of the dataset, with TrainSet, ValSet and TestSet (path)."""
    output: Path
    """Folder of the shard set (path); one that a run with the same options left unfinished is continued."""
    components: tuple[Component, ...] = ("rgba", "json", "worldp")
    """What a sample holds beside its labels."""
    image_format: Format = "jpeg"
    """How images are stored: raw needs no decoding, source keeps the dataset's own files, 1280x800 pixels."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    quality: int = 95
    """JPEG quality (1 to 100)."""
    samples_per_shard: int = 4096
    """Size of a shard (samples)."""
    seed: int = 0
    """Seed of the order of samples (integer from 0)."""
    split: tuple[SplitName, ...] = ("train", "val", "test")
    """Splits to take."""
    subjects: tuple[str, ...] = ()
    """Names of subjects to take; empty takes all."""
    on_defect: Literal["skip", "fail"] = "skip"
    """What to do about an unusable frame: skip it and list it in the manifest, or stop."""
    workers: int = 0
    """Workers that read and write (processes); 0 takes one per core."""
    scheduler: str = ""
    """Address of a Dask scheduler, such as tcp://host:8786; empty stays on this machine.
    Its workers write the shards; they must see the same folders."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            self,
            "--",
            image_size=Range(32, 4096),
            quality=Range(1, 100),
            samples_per_shard=Range(1, 1_000_000),
            seed=Range(0, 2**62),
            workers=Range(0, 4096),
        )


@command("tools.shard", "Turn the dataset into webdataset tar shards with DALI indices and a manifest.")
def main(flags: ShardFlags) -> int:
    """Write the shard set."""
    components = tuple(name for name in get_args(Component) if name in flags.components)
    preprocessing = Preprocessing.of(flags.image_format, flags.image_size, flags.quality, XR_EGOPOSE)
    workers = flags.workers or available_cores()
    plan = make_plan(flags.dataset, flags.split, flags.subjects, components, seed=flags.seed, workers=workers)
    _check_plan(flags, plan)
    for note, frames in plan.notes.items():
        logger.info(f"{frames} frames with {note}; `python -m tools.validate` lists them")
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
            _write(flags, options, preprocessing, plan)
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


def _write(flags: ShardFlags, options: dict[str, Any], preprocessing: Preprocessing, plan: Plan) -> None:
    """Write the shards that are not there yet, then the manifest."""
    workers, size = flags.workers or available_cores(), flags.samples_per_shard
    jobs = [
        ShardJob(
            output=flags.output,
            split=name,
            name=f"{name}-{first // size:06d}.tar",
            recordings=split.recordings,
            rows=split.rows[first : first + size],
            components=tuple(options["components"]),
            preprocessing=preprocessing,
            stop_at_defect=flags.on_defect == "fail",
        )
        for name, split in plan.splits.items()
        for first in range(0, len(split.rows), size)
    ]
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
    manifest = _manifest(flags.output, options, preprocessing, plan, results)
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


def _finished(flags: ShardFlags, job: ShardJob) -> ShardResult | None:
    result = resume_state.load_result(flags.output, job.split, job.name)
    # who stops at defects mends them and runs again: shards with skipped frames are made anew
    return None if result and result.skipped and flags.on_defect == "fail" else result


def _manifest(
    output: Path,
    options: dict[str, Any],
    preprocessing: Preprocessing,
    plan: Plan,
    results: dict[str, list[ShardResult]],
) -> Manifest:
    """Describe shards that are all in their folders; ``results`` are those of each split's shards, in order."""
    splits = {}
    for name, planned in plan.splits.items():
        skipped = [*planned.skipped, *(frame for result in results[name] for frame in result.skipped)]
        splits[name] = Split(
            # a shard whose frames were all skipped on decoding was not written
            tuple(result.shard for result in results[name] if result.shard.samples),
            tuple(sorted(skipped, key=lambda frame: (frame.subject, frame.environment, frame.frame))),
        )
    camera = preprocessing.camera(XR_EGOPOSE)
    manifest = Manifest(options, preprocessing, camera, plan.subjects, plan.environments, plan.actions, splits)
    found = replace(preprocessing, image_circle=_image_circle(output, manifest))
    return replace(manifest, preprocessing=found)


def _image_circle(output: Path, manifest: Manifest) -> Circle | None:
    """Return the circle that the stored images of the first split show; None without images."""
    split = next((name for name, split in manifest.splits.items() if split.samples), None)
    if split is None or manifest.image_member is None:
        return None
    shard_set = ShardSet(output, split, manifest=manifest)
    # samples are in random order, so these come from all recordings
    indices = np.linspace(0, len(shard_set) - 1, min(_CIRCLE_IMAGES, len(shard_set))).astype(np.int64)
    stored = image_data(shard_set, indices, manifest.image_member)
    images = (data if data.ndim == 3 else decode(data) for data in stored)
    return find_circle(center_square(image) for image in images if image is not None)


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
