"""Turn the dataset into a shard set: ``python -m tools.shard --dataset DATASET --output SHARDS``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from engine.cli.command import OK, Command, command
from engine.cli.forecast import Destination
from loaders.errors import Failure, InputError
from loaders.format.manifest import FILE_NAME, Split
from loaders.preprocessing import Format, Preprocessing
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.files import remove_partials, write_whole
from loaders.system.os_errors import DiskFullError, format_bytes
from models.camera import Crop
from tools.dataset.source import XR_EGOPOSE
from tools.parallel import Meter, over_cluster, over_processes
from tools.sharding import resume_state
from tools.sharding.description import describe
from tools.sharding.forecast import show_forecast
from tools.sharding.plan import Order, Plan, make_plan, reasons
from tools.sharding.resume_state import Recipe, ShardResult
from tools.sharding.work import Work, find_work, finished_result
from tools.sharding.writer import GO_ON, ShardJob, estimate, write_shard
from tools.sources import Source
from tools.sources.opening import open_source

logger = logging.getLogger(__name__)

Component = Literal["rgba", "json", "worldp", "depth", "objectId", "rot"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class ShardFlags(Command):
    """Flags of ``tools.shard``."""

    dataset: Annotated[Path, tyro.conf.arg(aliases=("--root",))]
    """Folder of the dataset, with TrainSet, ValSet and TestSet, or what --source reads (path)."""
    source: str = XR_EGOPOSE
    """Class that reads the dataset, as package.module:Class or path/to/file.py:Class, for data of your own; see
    docs/extending.md."""
    output: Path
    """Folder of the shard set (path); one that a run with the same options left unfinished is continued."""
    components: tuple[Component, ...] = ("rgba", "json", "worldp")
    """What a sample holds beside its labels; of the default what the source has. Few frames have rot, and lacking it is
    no defect."""
    crop: Crop = "square"
    """Which square of a frame is stored: its center, all that the lens shows, or all of the frame. What it holds beyond
    the frame is black."""
    image_format: Format = "jpeg"
    """How images are stored: raw needs no decoding; source keeps the dataset's own PNG files, whole, and loaders
    crop them."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    quality: int = 95
    """JPEG quality (1 to 100)."""
    samples_per_shard: int = 4096
    """Size of a shard (samples)."""
    order: Order = "random"
    """Order of the samples: "recording" shuffles recordings and leaves the frames of each together, so that a disk
    reads the windows of data.window with few seeks; training shuffles either. Streams want "random"."""
    seed: int = 0
    """Seed of the order of samples (integer from 0)."""
    split: tuple[SplitName, ...] = ("train", "val", "test")
    """Splits to take."""
    subjects: tuple[str, ...] = ()
    """Names of subjects to take; empty takes all."""
    on_defect: Literal["skip", "fail"] = "skip"
    """What to do about an unusable frame: skip it and list it in the manifest, or stop."""
    dry_run: bool = False
    """Say what would be done, how long it would take and how much space; write nothing."""
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
    source = open_source(flags.source, flags.dataset)
    components = _components(flags, source)
    preprocessing = Preprocessing.of(flags.image_format, flags.crop, flags.image_size, flags.quality, source.camera)
    workers = flags.workers or available_cores()
    plan = make_plan(
        source, flags.split, flags.subjects, components, order=flags.order, seed=flags.seed, workers=workers
    )
    _check_plan(flags, plan)
    for note, frames in plan.notes.items():
        logger.info(f"{frames} frames with {note}; `python -m tools.validate` lists them")
    options = {
        "components": list(components),
        "samples_per_shard": flags.samples_per_shard,
        "seed": flags.seed,
        # shard sets that were made before there was a choice stay what they are
        **({} if flags.order == "random" else {"order": flags.order}),
        "splits": list(plan.splits),
        "subjects": sorted(set(flags.subjects)),
        "frames": plan.digest(),
    }
    recipe = Recipe(source, options, preprocessing)
    if flags.dry_run:
        Destination(flags.output).check()
        if resume_state.is_finished(flags.output, recipe):
            _say_finished(flags)
        else:
            _forecast(flags, recipe, plan)
        return OK
    with resume_state.sole_writer(flags.output):
        if resume_state.prepare(flags.output, recipe):
            _say_finished(flags)
        else:
            _write(flags, recipe, plan)
        resume_state.discard(flags.output)
    return OK


def _say_finished(flags: ShardFlags) -> None:
    sys.stdout.write(f"{flags.output} is finished already; `python -m tools.verify` checks it\n")


def _check_plan(flags: ShardFlags, plan: Plan) -> None:
    skipped = [frame for split in plan.splits.values() for frame in split.skipped]
    if skipped and flags.on_defect == "fail":
        first = skipped[0]
        raise InputError(
            f"{len(skipped)} frames cannot be used, the first is {first.subject} {first.environment} "
            f"{first.frame}: {first.reason}; `python -m tools.validate` lists all, --on-defect skip skips them"
        )
    if not any(len(split.rows) for split in plan.splits.values()):
        found = f"none of its {len(skipped)} frames can be used: {reasons(skipped)}" if skipped else "it has no frames"
        raise InputError(f"{flags.dataset}: {found}; --components leaves out what was not extracted")


def _components(flags: ShardFlags, source: Source) -> tuple[Component, ...]:
    """Return what samples hold, in their order. Raises InputError for what the dataset lacks."""
    lacking = [name for name in flags.components if name not in source.components]
    if lacking and flags.components != ShardFlags.components:
        raise InputError(
            f"{source.name} has no {' and no '.join(lacking)}: --components takes {', '.join(source.components)}"
        )
    return tuple(name for name in get_args(Component) if name in flags.components and name not in lacking)


def _find_work(flags: ShardFlags, recipe: Recipe, plan: Plan) -> Work:
    return find_work(flags.output, recipe, plan, stop_at_defect=flags.on_defect == "fail")


def _cores(flags: ShardFlags, remaining: Sequence[ShardJob]) -> int | None:
    """Return how many cores write shards; None if that is not known."""
    return None if flags.scheduler else max(1, min(flags.workers or available_cores(), len(remaining)))


def _forecast(flags: ShardFlags, recipe: Recipe, plan: Plan) -> None:
    """Say what `_write` would do, and raise what it would raise before its first shard."""
    work = _find_work(flags, recipe, plan)
    expected = estimate(work.remaining)
    if flags.scheduler:
        list(over_cluster(write_shard, [], flags.scheduler))  # whether it answers and has workers
    show_forecast(flags.output, plan, work, expected, _cores(flags, work.remaining))
    expected.check_room(flags.output, Destination(flags.output).free)


def _write(flags: ShardFlags, recipe: Recipe, plan: Plan) -> None:
    """Write the shards that are not there yet, then the manifest."""
    work = _find_work(flags, recipe, plan)
    remaining = work.remaining
    expected = estimate(remaining)
    if remaining:
        free = Destination(flags.output).free  # what is said is what is checked: others write there as well
        size = f"about {format_bytes(expected.bytes)} ({format_bytes(free)} free)"
        duration = expected.duration(_cores(flags, remaining))
        sys.stdout.write(f"{expected.samples} samples to write: {size}, about {duration}\n")
        sys.stdout.flush()
        expected.check_room(flags.output, free)
    with Meter(expected.samples, "frame", "sharding") as meter:
        try:
            done = work.done | _write_shards(flags, remaining, meter)
        except DiskFullError as error:
            samples = sum(len(job.rows) for job in work.jobs if not finished_result(job))
            needed = format_bytes(samples * expected.bytes_per_sample)
            raise Failure(f"{error}: the {samples} samples to come take about {needed}: make room, {GO_ON}") from None
    results = {name: [done[job.name] for job in work.of(name)] for name in plan.splits}
    manifest = describe(flags.output, recipe, plan, results)
    remove_partials(flags.output)  # a cluster's lost workers leave theirs behind
    write_whole(flags.output / FILE_NAME, manifest.to_json().encode())
    _summarize(flags.output, manifest.splits, meter)


def _write_shards(flags: ShardFlags, jobs: Sequence[ShardJob], meter: Meter) -> dict[str, ShardResult]:
    """Write shards here or on the cluster; return their results by name."""
    if not flags.scheduler:
        workers = flags.workers or available_cores()
        return {result.shard.name: result for result in over_processes(write_shard, jobs, workers, meter)}
    done = {}
    for number, result in over_cluster(write_shard, jobs, flags.scheduler):
        done[result.shard.name] = result
        meter.add(len(jobs[number].rows), result.shard.bytes)
    return done


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
        sys.stdout.write(f"skipped, listed in {FILE_NAME}: {len(skipped)} frames: {reasons(skipped)}\n")


if __name__ == "__main__":
    sys.exit(main())
