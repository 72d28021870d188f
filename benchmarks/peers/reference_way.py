"""What the reference code does for each frame of the extracted dataset, as its recipe describes it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.common import Batches, from_workers
from models.skeleton import JOINTS
from tools.dataset import find_environments

_LEFT: Final = 240
_RIGHT: Final = 1040
"""Columns of the centre square of a frame (pixels)."""
_SIDE: Final = 368
"""Of the network's picture (pixels)."""


class Frames(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Frames of the training set as (picture, joints_2d, joints_3d).

    The picture is (3, 368, 368) float32 in [-1, 1]; joints_2d (16, 2) pixels of it; joints_3d (16, 3) metres, camera
    frame. Files are paired by frame number; the reference pairs by position.
    """

    def __init__(self, root: Path) -> None:
        """List the training frames of the dataset in ``root`` that have a picture and labels."""
        self._files = [
            (picture, labels[frame])
            for environment in find_environments(root, ("train",))
            for labels in (environment.files("json"),)
            for frame, picture in environment.files("rgba").items()
            if frame in labels
        ]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        from skimage.io import imread  # noqa: PLC0415 - absent on some machines
        from skimage.transform import resize  # noqa: PLC0415

        picture, labels = self._files[index]
        square = imread(picture)[:, _LEFT:_RIGHT, :3]
        scaled = (resize(square, (_SIDE, _SIDE), anti_aliasing=True) - 0.5) / 0.5
        image = torch.from_numpy(scaled.transpose(2, 0, 1).astype(np.float32))
        return image, *_joints(labels)


def _joints(path: Path) -> tuple[Tensor, Tensor]:
    """Return joints_2d (16, 2), pixels of the network's picture, and joints_3d (16, 3), metres."""
    frame = json.loads(path.read_text(encoding="utf-8"))
    names = [joint["name"].removeprefix("mixamorig:") for joint in frame["joints"]]
    columns = [names.index(name) for name in JOINTS]
    pixels, centimetres = (np.array(frame[key])[:, columns].T for key in ("pts2d_fisheye", "pts3d_fisheye"))
    scaled = (pixels - [_LEFT, 0]) * _SIDE / (_RIGHT - _LEFT)
    return torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy((centimetres / 100).astype(np.float32))


@contextlib.contextmanager
def reference_way(dataset: Path, batch_size: int, workers: int, *, seed: int) -> Iterator[Batches]:
    """A global shuffle over PNGs and JSON files; labels are joints_2d (B, 16, 2) and joints_3d (B, 16, 3).

    Args:
        dataset: folder that holds TrainSet.
        batch_size: samples of a batch.
        workers: processes.
        seed: of the shuffle.
    """
    # once here instead of in each worker
    import skimage.io  # noqa: PLC0415
    import skimage.transform  # noqa: F401, PLC0415

    loader = DataLoader(
        Frames(dataset),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=True,
    )
    with from_workers(loader, workers) as batches:
        yield batches
