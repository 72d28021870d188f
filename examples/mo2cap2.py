"""Mo2Cap2 and its like as a source of shards: chunks of HDF5 that hold pixels and labels. Needs h5py (extra ``hdf5``).

``python -m tools.shard --source examples/mo2cap2.py:Mo2Cap2 --dataset ROOT --output SHARDS``

Expected is

    ROOT/calib_results.txt, or fisheye.calibration.json     OCamCalib's polynomial, of images of the stored size
    ROOT/{train,val,test}/mo2cap2_chunk_0001.hdf5           Images (N, 3, H, W) uint8, RGB; Annot2D (N, 15, 2) pixels;
                                                            Annot3D (N, 15, 3) mm, camera frame

The release has one folder of 530 chunks, and says of no sample who it is: which chunks train is your choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from loaders.codecs import Image
from models.ocam import OcamCamera
from models.skeleton import MO2CAP2
from tools.sources import SPLITS, FrameLabels, Recording, Source


class Mo2Cap2(Source):
    """Chunks of samples."""

    name = "Mo2Cap2"
    skeleton = MO2CAP2
    shift = (0.0, 0.0)
    """Added to the 2D labels (pixels). Where `tools.validate` finds them off the camera model, images may have been
    cropped after they were labelled: the release is said to want (-33, 0)."""

    def __init__(self, root: Path) -> None:
        """Read the camera."""
        super().__init__(root)
        files = [root / name for name in ("calib_results.txt", "fisheye.calibration.json")]
        self.camera = OcamCamera.read(next((file for file in files if file.is_file()), files[0]))
        self._open: dict[Path, h5py.File] = {}

    def recordings(self) -> Iterator[Recording]:
        """Yield every chunk."""
        for split in SPLITS:
            for path in sorted((self.root / split).glob("*.hdf5")):
                yield Recording(split, "unknown", path.stem, path)

    def frames(self, recording: Recording) -> Iterable[int]:
        """Return the numbers of a chunk's samples."""
        return range(len(self._chunk(recording)["Images"]))

    def labels(self, recording: Recording, frame: int) -> FrameLabels:
        """Return the labels, in metres and in pixels of the images."""
        chunk = self._chunk(recording)
        joints_3d, joints_2d = (np.asarray(chunk[name][frame], float) for name in ("Annot3D", "Annot2D"))
        return FrameLabels(joints_3d=joints_3d / 1000, joints_2d=joints_2d + self.shift)

    def image(self, recording: Recording, frame: int) -> Image:
        """Return the pixels."""
        pixels: Image = np.asarray(self._chunk(recording)["Images"][frame]).transpose(1, 2, 0)
        return pixels

    def _chunk(self, recording: Recording) -> h5py.File:
        """Return a chunk, opened once: samples are read in random order."""
        if recording.path not in self._open:
            self._open[recording.path] = h5py.File(recording.path, "r")
        return self._open[recording.path]
