"""The sheet: one page that needs no other file, out of sheet.html.j2, sheet.css and sheet.js."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.examples import stored_image
from engine.report.templates import data_uri, render_page
from loaders import ShardSet
from loaders.codecs import encode
from loaders.errors import printable
from models.camera import Camera
from models.skeleton import action_name
from tools.browsing.choice import Order
from tools.browsing.results import Result

_QUALITY: Final = 85
"""Of the JPEGs in a sheet."""
_LETTERS: Final = "AB"
"""Names of the checkpoints, where there are two."""


def sheet_page(
    shard_set: ShardSet, shown: Sequence[int], results: Sequence[Result], *, order: Order, image_size: int
) -> str:
    """Return the page.

    Args:
        shard_set: the split, with images.
        shown: positions of the frames in the split.
        results: of the checkpoints, none or up to two.
        order: how the frames were chosen.
        image_size: side of the images in the page (pixels); smaller ones stay as they are.

    Raises:
        InputError: an image cannot be decoded.
    """
    size = min(image_size, shard_set.window[2])
    camera, manifest = shard_set.seen_camera(size), shard_set.manifest
    data = {
        "size": size,
        "unit": results[0].unit if results else "",
        "joints": manifest.skeleton.joints,
        "bones": manifest.skeleton.bones,
        "letters": list(_LETTERS[: len(results)]) if len(results) > 1 else [""] * len(results),
        "frames": [_frame(shard_set, index, results, camera) for index in shown],
    }
    return render_page(
        Path(__file__).with_name("sheet.html.j2"),
        shards=printable(str(shard_set.folder.parent)),
        split=shard_set.folder.name,
        fingerprint=shard_set.fingerprint,
        frames=len(shard_set),
        order=order,
        checkpoints=[(printable(str(result.checkpoint)), result, result.errors.mean()) for result in results],
        data=data,
        root=manifest.skeleton.joints[manifest.skeleton.root],
        frame=f"{manifest.preprocessing.frame.width}x{manifest.preprocessing.frame.height}",
    )


def _frame(shard_set: ShardSet, index: int, results: Sequence[Result], camera: Camera) -> dict[str, Any]:
    """Return what the page shows of a frame; positions are pixels of ``camera``."""
    image = stored_image(shard_set, index, camera.width)
    assert image is not None
    manifest = shard_set.manifest
    subject, _, _, action = shard_set.meta([index])[0].tolist()
    return {
        "key": shard_set.key(index),
        "subject": manifest.subjects[subject],
        "action": action_name(manifest.actions[action]),
        "group": manifest.groups[action] or "no group",
        "image": data_uri(encode(image, ".jpg", quality=_QUALITY), "jpeg"),
        "truth": _rounded(shard_set.camera.transfer(shard_set.pose([index])[0, :, :2], camera)),
        "predictions": [_rounded(result.positions(shard_set, index, camera)) for result in results],
        "errors": [round(float(result.errors[index]), 3) for result in results],
    }


def _rounded(positions: NDArray[np.floating[Any]]) -> list[list[float] | None]:
    """Return positions (J, 2) for the page; None where there is none."""
    return [pair if np.isfinite(pair).all() else None for pair in positions.astype(float).round(2).tolist()]
