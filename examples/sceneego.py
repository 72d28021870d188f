"""SceneEgo and its like as a source of shards: folders of JPEGs, and a pickle of poses that is read, not executed.

``python -m tools.shard --source examples/sceneego.py:SceneEgo --dataset ROOT --output SHARDS``

Expected is, as the dataset's own tools have it,

    ROOT/fisheye.calibration.json                 OCamCalib's polynomial, of the whole frames
    ROOT/{train,val,test}/diogo1/imgs/img_000123.jpg
    ROOT/{train,val,test}/diogo1/annotation.pkl   list of {"ext_id": 321, "ego_pose_gt": (15, 3) metres, camera frame}
    ROOT/{train,val,test}/diogo1/syn.json         {"ego": 100, "ext": 298}: images and poses that are of one moment

Which recordings train is your choice: the folders train, val and test may hold links. EgoPW differs in names alone, see
the attributes; where there is no syn.json, images and poses have the same numbers.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.ocam import OcamCamera
from models.skeleton import MO2CAP2
from tools.sources import SPLITS, FrameError, FrameLabels, Recording, Source

_ARRAYS = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""All that pickled arrays call."""


class SceneEgo(Source):
    """Recordings of one headset."""

    name = "SceneEgo"
    skeleton = MO2CAP2
    calibration = "fisheye.calibration.json"
    poses = "annotation.pkl"
    """Pickle of a list with a dictionary for each pose."""
    number, pose = "ext_id", "ego_pose_gt"
    """Keys of these dictionaries: the pose's number, and its joints in the camera frame."""

    def __init__(self, root: Path) -> None:
        """Read the camera."""
        super().__init__(root)
        self.camera = OcamCamera.read(root / self.calibration)
        self._poses: dict[Path, dict[int, Any]] = {}

    def recordings(self) -> Iterator[Recording]:
        """Yield every folder that has images."""
        for split in SPLITS:
            for images in sorted((self.root / split).glob("*/imgs")):
                folder = images.parent
                yield Recording(split, re.sub(r"\d+$", "", folder.name) or folder.name, folder.name, folder)

    def frames(self, recording: Recording) -> Iterable[int]:
        """Return the numbers in the images' names."""
        return sorted(int(path.stem.rpartition("_")[2]) for path in (recording.path / "imgs").glob("img_*.jpg"))

    def labels(self, recording: Recording, frame: int) -> FrameLabels:
        """Return the pose of the same moment."""
        poses = self._poses_of(recording.path)
        if frame not in poses:
            raise FrameError(f"no pose in {self.poses}")
        return FrameLabels(joints_3d=np.asarray(poses[frame]))

    def image(self, recording: Recording, frame: int) -> bytes:
        """Return the JPEG."""
        return (recording.path / "imgs" / f"img_{frame:06d}.jpg").read_bytes()

    def _poses_of(self, folder: Path) -> dict[int, Any]:
        """Return a recording's poses by the numbers of their images, read once."""
        if folder not in self._poses:
            moments = folder / "syn.json"
            synchronized = json.loads(moments.read_text()) if moments.is_file() else {"ego": 0, "ext": 0}
            offset = synchronized["ego"] - synchronized["ext"]
            entries = read_pickle(folder / self.poses)
            self._poses = {folder: {int(entry[self.number]) + offset: entry[self.pose] for entry in entries}}
        return self._poses[folder]


def read_pickle(path: Path) -> Any:
    """Return the lists, dictionaries, numbers and arrays in a pickle.

    A pickle is a program. What this one may call is what makes arrays; anything else raises pickle.UnpicklingError.
    """

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in _ARRAYS:
                raise pickle.UnpicklingError(f"{path} would call {module}.{name}: take poses from whom you trust")
            return super().find_class(module, name)

    with path.open("rb") as file:
        return Reader(file).load()
