"""The shards of a set: which are there already, and which remain to be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.sharding.plan import Plan
from tools.sharding.resume_state import Recipe, ShardResult, load_result
from tools.sharding.writer import ShardJob


@dataclass(frozen=True)
class Work:
    """All shards of a set."""

    jobs: tuple[ShardJob, ...]
    done: dict[str, ShardResult]
    """Results of those that an earlier run finished, by the shard's name."""

    @property
    def remaining(self) -> list[ShardJob]:
        """Shards to write."""
        return [job for job in self.jobs if job.name not in self.done]

    def of(self, split: str) -> list[ShardJob]:
        """Return the shards of a split, in order."""
        return [job for job in self.jobs if job.split == split]


def find_work(
    output: Path,
    recipe: Recipe,
    plan: Plan,
    *,
    stop_at_defect: bool,
) -> Work:
    """Cut a plan into shards, and look which of them are in ``output``, which need not exist."""
    samples_per_shard: int = recipe.options["samples_per_shard"]
    jobs = tuple(
        ShardJob(
            output=output,
            split=name,
            source=recipe.source,
            name=f"{name}-{first // samples_per_shard:06d}.tar",
            recordings=split.recordings,
            rows=split.rows[first : first + samples_per_shard],
            components=tuple(recipe.options["components"]),
            preprocessing=recipe.preprocessing,
            stop_at_defect=stop_at_defect,
        )
        for name, split in plan.splits.items()
        for first in range(0, len(split.rows), samples_per_shard)
    )
    return Work(jobs, {job.name: result for job in jobs if (result := finished_result(job))})


def finished_result(job: ShardJob) -> ShardResult | None:
    """Return the result of a shard that was finished before, and need not be written again; else None."""
    result = load_result(job.output, job.split, job.name)
    # who stops at defects mends them and runs again: shards with skipped frames are made anew
    return None if result and result.skipped and job.stop_at_defect else result
