"""What the steps of the GPU suite share: frames, sizes, the device."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from benchmarks import data
from benchmarks.harness import Length
from loaders import DataConfig
from loaders.format.manifest import FILE_NAME
from models.heatmap_net import Backbone

_FRAMES: Final = 128
"""Frames of the shard set: 9 MB of JPEGs as large as real ones."""
_EXTRACTED: Final = 32
"""Frames as they were extracted, for the reference way and for raw shards: 11 MB."""
_REPEAT: Final = 64
"""How often the shard set is strung together, so that ends of epochs are rare (times)."""
_REPEAT_LABELS: Final = 1024
"""The same for train3d (times)."""


@dataclass(frozen=True)
class Setting:
    """What is measured on, and how long."""

    frames: data.Frames
    labels: Path
    """The shard set of JPEGs with longer epochs, for train3d, which would else begin ten a second."""
    scratch: Path
    """For what nobody keeps."""
    gpu: bool
    image_size: int
    """Side of the images (pixels)."""
    batch_size: int
    """Samples of a batch, unless a step says otherwise."""
    backbones: tuple[Backbone, Backbone]
    """The smaller and the larger backbone."""
    length: Length
    repetitions: int
    steps: int
    """Steps of the trainings whose loss must fall."""

    @property
    def device(self) -> torch.device:
        """Where everything is measured."""
        return torch.device("cuda", 0) if self.gpu else torch.device("cpu")

    def loading(self, *, raw: bool = False, labels_alone: bool = False, **flags: object) -> DataConfig:
        """Return how batches are loaded: augmented as ``configs/`` say."""
        root = self.labels if labels_alone else self.frames.raw if raw else self.frames.jpeg
        values = {"batch_size": self.batch_size, "image_size": self.image_size, "augment": data.AUGMENT, **flags}
        return DataConfig(shards=root, **values)  # type: ignore[arg-type]


def choose(frames: data.Frames, labels: Path, scratch: Path) -> Setting:
    """Return what this machine can measure: small and short without a GPU, where the numbers mean nothing."""
    if torch.cuda.is_available():
        length = Length(seconds=1.0, warmup=0.4, steps=5)
        return Setting(frames, labels, scratch, True, 368, 128, ("resnet50", "resnet101"), length, 3, 60)
    return Setting(frames, labels, scratch, False, 64, 4, ("resnet18", "resnet18"), Length(steps=1), 1, 30)


def prepare(folder: Path, image_size: int = 368) -> data.Frames:
    """Make the frames in ``folder`` unless they are there: 20 MB, to be carried to where the GPU is."""
    jpeg, dataset = folder / "jpeg", folder / "dataset"
    if not (jpeg / FILE_NAME).exists():
        shutil.rmtree(folder, ignore_errors=True)
        data.synthesize(dataset, _FRAMES)
        data.add_grain(dataset, data.GRAIN)
        data.shard(dataset, jpeg, "jpeg", image_size)
        shutil.rmtree(dataset)
        data.synthesize(dataset, _EXTRACTED)
    return data.Frames(jpeg, dataset=dataset)


def unpack(frames: data.Frames, scratch: Path, image_size: int = 368) -> tuple[data.Frames, Path]:
    """Return the frames as they are measured: JPEG shards strung together, raw shards, and shards for their labels."""
    assert frames.dataset
    jpeg, raw, labels = scratch / "jpeg", scratch / "raw", scratch / "labels"
    for root, times in ((jpeg, _REPEAT), (labels, _REPEAT_LABELS)):
        shutil.copytree(frames.jpeg, root)
        data.repeat_shards(root, times)
    data.shard(frames.dataset, raw, "raw", image_size)
    data.repeat_shards(raw, _REPEAT * _FRAMES // _EXTRACTED)
    return data.Frames(jpeg, raw=raw, dataset=frames.dataset), labels
