"""What the reference code does for each frame of the extracted dataset, as its recipe describes it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.peers.common import Batches, from_workers
from models.heatmap_net import heatmap_size
from models.xr_egopose import JOINTS, NECK
from tools.dataset.layout import find_recordings

RECIPE_BATCH: Final = 16
"""Batch of the reference recipe (samples)."""
_LEFT: Final = 240
_RIGHT: Final = 1040
"""Columns of the center square of a frame (pixels)."""
_SIDE: Final = 368
"""Of the recipe's image (pixels)."""
_HEAD: Final = JOINTS.index("Head")
_SIGMA: Final = 2
"""Standard deviation of the Gaussians (heatmap cells)."""
_REACH: Final = 3 * _SIGMA
"""From a Gaussian's center to the end of its window (heatmap cells)."""
_ENDLESS: Final = 2**40

Sample = tuple[Tensor, Tensor, Tensor]
"""Image, heatmaps, joints_3d: of one frame, or of B of them."""


class Frames(Dataset[Sample]):
    """Frames of the training set as (image, heatmaps, joints_3d).

    The image is (3, S, S) float32 in [-1, 1]; heatmaps (15, H, H) with H = heatmap_size(S); joints_3d (16, 3)
    metres relative to Neck. Files are paired by frame number; the reference pairs by position.
    """

    def __init__(self, root: Path, image_size: int = _SIDE) -> None:
        """List the training frames of the dataset in ``root`` that have an image and labels.

        ``image_size`` is S (pixels).
        """
        self._image_size = image_size
        self._files = [
            (path, labels[frame])
            for recording in find_recordings(root, ("train",))
            for labels in (recording.files("json"),)
            for frame, path in recording.files("rgba").items()
            if frame in labels
        ]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        from skimage.io import imread  # noqa: PLC0415 - absent on some machines
        from skimage.transform import resize  # noqa: PLC0415

        path, labels = self._files[index]
        square = imread(path)[:, _LEFT:_RIGHT, :3]
        scaled = (resize(square, (self._image_size, self._image_size), anti_aliasing=True) - 0.5) / 0.5
        image = torch.from_numpy(scaled.transpose(2, 0, 1).astype(np.float32))
        joints_2d, joints_3d = _joints(labels, self._image_size)
        heatmaps = encode_heatmaps(joints_2d, self._image_size)
        return image, torch.from_numpy(heatmaps), torch.from_numpy((joints_3d - joints_3d[NECK]).astype(np.float32))


def _joints(path: Path, image_size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return joints_2d (16, 2), pixels of the network's image, and joints_3d (16, 3), metres, camera frame."""
    frame = json.loads(path.read_text(encoding="utf-8"))
    names = [joint["name"].removeprefix("mixamorig:") for joint in frame["joints"]]
    columns = [names.index(name) for name in JOINTS]
    pixels, centimetres = (np.array(frame[key])[:, columns].T for key in ("pts2d_fisheye", "pts3d_fisheye"))
    return (pixels - [_LEFT, 0]) * image_size / (_RIGHT - _LEFT), centimetres / 100


def encode_heatmaps(joints_2d: NDArray[np.floating[Any]], image_size: int) -> NDArray[np.float32]:
    """Return (15, H, H): a Gaussian in a window of 13 cells a side, centered on a whole cell, joint after joint.

    Args:
        joints_2d: (16, 2), pixels of the network's image; Head is drawn as well, then deleted.
        image_size: side of the image (pixels).
    """
    size = heatmap_size(image_size)
    stride = image_size / size
    heatmaps = np.zeros((len(JOINTS), size, size), np.float32)
    for heatmap, (u, v) in zip(heatmaps, joints_2d, strict=True):
        left, top = int(u / stride + 0.5) - _REACH, int(v / stride + 0.5) - _REACH
        cells = np.arange(-_REACH, _REACH + 1)
        window = np.exp(-(cells**2 + cells[:, None] ** 2) / (2 * _SIGMA**2))
        x0, x1 = max(left, 0), min(left + len(cells), size)
        y0, y1 = max(top, 0), min(top + len(cells), size)
        if x0 < x1 and y0 < y1:
            heatmap[y0:y1, x0:x1] = window[y0 - top : y1 - top, x0 - left : x1 - left]
    return np.delete(heatmaps, _HEAD, axis=0)


def frame_loader(dataset: Path, image_size: int, batch_size: int, workers: int, *, seed: int) -> DataLoader[Sample]:
    """Return a loader of shuffled batches that never ends: epochs join without a pause.

    A real epoch is hours long; at its end workers start anew, which in a small set would count at every few batches.

    Args:
        dataset: folder that holds TrainSet.
        image_size: side of the image (pixels).
        batch_size: samples of a batch.
        workers: processes; 0 loads in this one.
        seed: of the shuffle.
    """
    # once here instead of in each worker
    import skimage.io  # noqa: PLC0415
    import skimage.transform  # noqa: F401, PLC0415

    frames = Frames(dataset, image_size)
    # what shuffle=True makes, longer: one permutation after the other
    order = RandomSampler(frames, num_samples=_ENDLESS, generator=torch.Generator().manual_seed(seed))
    return DataLoader(frames, batch_size, sampler=order, num_workers=workers, drop_last=True)


@contextlib.contextmanager
def reference_way(
    dataset: Path, batch_size: int, workers: int, *, seed: int, image_size: int = _SIDE
) -> Iterator[Batches]:
    """A global shuffle over PNGs and JSON files; labels are heatmaps (B, 15, H, H) and joints_3d (B, 16, 3).

    Args:
        dataset: folder that holds TrainSet.
        batch_size: samples of a batch.
        workers: processes.
        seed: of the shuffle.
        image_size: side of the image (pixels).
    """
    with from_workers(frame_loader(dataset, image_size, batch_size, workers, seed=seed), workers) as batches:
        yield batches
