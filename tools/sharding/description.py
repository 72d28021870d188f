"""Describing shards that are written: the manifest, and the image circle that their images show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from loaders.codecs import decode
from loaders.format.manifest import Manifest, Split
from loaders.format.shard_set import ShardSet, image_data
from loaders.preprocessing import Circle, cut_window, find_circle
from tools.sharding.plan import Plan
from tools.sharding.resume_state import Recipe, ShardResult

_CIRCLE_IMAGES: Final = 256
"""Stored images in which the image circle is looked for (images)."""


def describe(
    output: Path,
    recipe: Recipe,
    plan: Plan,
    results: Mapping[str, Sequence[ShardResult]],
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
    manifest = Manifest(
        options=recipe.options,
        preprocessing=recipe.preprocessing,
        subjects=plan.subjects,
        environments=plan.environments,
        actions=plan.actions,
        splits=splits,
        generated=plan.generated,
        dataset=recipe.dataset,
        skeleton=recipe.skeleton,
        action_groups=recipe.action_groups,
    )
    found = replace(recipe.preprocessing, image_circle=_image_circle(output, manifest))
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
    return find_circle(cut_window(image, shard_set.window) for image in images if image is not None)
