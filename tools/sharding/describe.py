"""The manifest of shards that were written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from loaders.codecs import decode
from loaders.format.manifest import Manifest, Split
from loaders.format.shard_set import ShardSet, image_data
from loaders.preprocessing import Circle, Preprocessing, center_square, find_circle
from models.camera import XR_EGOPOSE
from tools.sharding.plan import Plan, SplitPlan
from tools.sharding.resume_state import ShardResult

_CIRCLE_IMAGES: Final = 256
"""Stored images in which the image circle is looked for (images)."""


def describe(
    output: Path,
    options: dict[str, Any],
    preprocessing: Preprocessing,
    plan: Plan,
    results: Mapping[str, Sequence[ShardResult]],
) -> Manifest:
    """Return the manifest of a set whose shards are all in their folders; the same shards give the same manifest.

    Args:
        output: folder of the shard set.
        options: as the manifest lists them.
        preprocessing: what was done to the images; the image circle is added.
        plan: the samples.
        results: of each split's shards, in order.
    """
    splits = {name: _split(planned, results[name]) for name, planned in plan.splits.items()}
    names = plan.subjects, plan.environments, plan.actions
    manifest = Manifest(options, preprocessing, preprocessing.camera(XR_EGOPOSE), *names, splits)
    found = dataclasses.replace(preprocessing, image_circle=_image_circle(output, manifest))
    return dataclasses.replace(manifest, preprocessing=found)


def _split(planned: SplitPlan, results: Sequence[ShardResult]) -> Split:
    skipped = [*planned.skipped, *(frame for result in results for frame in result.skipped)]
    return Split(
        # a shard whose frames were all skipped on decoding was not written
        tuple(result.shard for result in results if result.shard.samples),
        tuple(sorted(skipped, key=lambda frame: (frame.subject, frame.environment, frame.frame))),
    )


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
