"""A dataset that is none of ours, and the class that reads it, as a user would write both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from loaders.codecs import encode
from tests.other_datasets import BODY, FRAMES
from tests.shard_factory import paint_blobs, random_pose, world_positions

CAMERA = FRAMES["ocam"]

OWN = """
    import json
    from dataclasses import dataclass

    import numpy as np

    from tests.other_datasets import BODY, FRAMES
    from tools.sources import FrameError, FrameLabels, Recording, Source


    @dataclass(frozen=True)
    class Walk(Recording):
        shoes: int = 2


    class Own(Source):
        name = "own"
        camera = FRAMES["ocam"]
        skeleton = BODY
        action_groups = {"Moving": ["walk"]}
        components = ("rgba", "depth")

        def recordings(self):
            return [Walk(*path.parts[-3:], path) for path in self.root.glob("*/*/*")]

        def frames(self, recording):
            return [int(path.stem) for path in recording.path.glob("*.json")]

        def labels(self, recording, frame):
            return FrameLabels(**json.loads((recording.path / f"{frame}.json").read_text()))

        def image(self, recording, frame):
            return (recording.path / f"{frame}.jpg").read_bytes()

        def component(self, recording, frame, name):
            return (recording.path / f"{frame}.{name}.png").read_bytes()
"""

RECORDINGS = (("train", "anna", "park"), ("train", "ben", "stairs.2"), ("val", "carl", "park"))


def write_frames(root: Path, frames: int = 4) -> Path:
    """Write as many frames, from 10 on, of each recording; a blob is on each joint. Return ``root``."""
    random = np.random.default_rng(0)
    for recording in RECORDINGS:
        folder = root.joinpath(*recording)
        folder.mkdir(parents=True)
        for frame in range(10, 10 + frames):
            joints_2d, joints_3d = random_pose(CAMERA, random, len(BODY))
            labels = {"joints_3d": joints_3d.tolist(), "action": "walk"}
            (folder / f"{frame}.json").write_text(json.dumps(labels))
            (folder / f"{frame}.jpg").write_bytes(encode(paint_blobs(CAMERA, joints_2d), ".jpg"))
            (folder / f"{frame}.depth.png").write_bytes(encode(world_positions(CAMERA)[:, :, 0], ".png"))
    return root


def edit_labels(root: Path, frame: int, **changes: object) -> None:
    """Change the labels of a frame of the first recording."""
    path = root.joinpath(*RECORDINGS[0]) / f"{frame}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
