"""A few frames in the dataset's exact layout, with labels that the camera model agrees with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.xr_egopose import CAMERA, JOINTS
from tools.dataset.layout import FILE_NAMES, SET_FOLDERS, SUBJECTS, ReleaseRecording

EXTRA_JOINTS = ("Hips", "Spine", "LeftShoulder", "RightShoulder")
FILE_JOINTS = (*EXTRA_JOINTS[:2], *reversed(JOINTS), *EXTRA_JOINTS[2:])
"""Another order than training's, and joints that training ignores, as in the release."""

MODALITIES = ("rgba", "json", "worldp", "depth", "objectId")


@dataclass
class TinyDataset:
    """What was written."""

    root: Path
    recordings: list[ReleaseRecording] = field(default_factory=list)

    def file(self, modality: str, frame: int, recording: int = 0) -> Path:
        return self.recordings[recording].file(modality, frame)

    def edit_json(self, frame: int, recording: int = 0, **changes: Any) -> None:
        path = self.file("json", frame, recording)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def make_dataset(
    root: Path,
    frames: int | Sequence[int] = 4,
    *,
    subjects: Sequence[tuple[str, str]] = (("train", "female_001_a_a"), ("test", "male_001_a_a")),
    environments: Sequence[str] = ("env_001",),
    modalities: Sequence[str] = MODALITIES,
    rot: bool = True,
) -> TinyDataset:
    """Write a dataset, with these frames or as many from 1 on in each recording.

    The rotations of a subject's later environments are a link to the first one's, as in the release.
    """
    dataset = TinyDataset(root)
    for split, subject in subjects:
        assert subject in SUBJECTS[split]
        for name in environments:
            path = root / SET_FOLDERS[split] / subject / name / "cam_down"
            recording = ReleaseRecording(split, subject, name, path)
            dataset.recordings.append(recording)
            for frame in range(1, frames + 1) if isinstance(frames, int) else frames:
                seed = [len(dataset.recordings), frame]
                mine = (*modalities, "rot") if rot and name == environments[0] else modalities
                write_frame(recording, frame, np.random.default_rng(seed), mine)
            if rot and name != environments[0]:
                (path / "rot").symlink_to(f"../../{environments[0]}/cam_down/rot")
    return dataset


def make_crowd(root: Path, frames: int) -> Path:
    """Write many frames quickly: eight images, one of them damaged, under many numbers."""
    dataset = make_dataset(root, 8, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"), rot=False)
    dataset.file("rgba", 7).write_bytes(dataset.file("rgba", 7).read_bytes()[:-100])
    for frame in range(9, frames + 1):
        for modality in ("rgba", "json"):
            dataset.file(modality, frame).write_bytes(dataset.file(modality, 1 + (frame - 1) % 8).read_bytes())
        dataset.edit_json(frame, char_height=frame)
    return root


def write_frame(
    recording: ReleaseRecording, frame: int, random: np.random.Generator, modalities: Sequence[str] = MODALITIES
) -> None:
    points = camera_points(random)
    pixels = CAMERA.project(points)
    image = background(random)
    paint_dots(image, pixels)
    contents: dict[str, NDArray[Any]] = {
        "rgba": np.dstack([image, np.full((800, 1280), 255, np.uint8)]) if frame % 2 else image,
        "worldp": world_positions(),
        "depth": image[:, :, 0] // 2,
        "objectId": image // 64,
    }
    for modality in modalities:
        path = recording.path / modality / FILE_NAMES[modality].format(subject=recording.subject, frame=frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        if modality == "json":
            path.write_text(json.dumps(frame_json(points, pixels, action=f"Boxing_mixamo_com_{frame % 2}")))
        elif modality == "rot":
            angles = random.uniform(-180, 180, (len(FILE_JOINTS), 3)).tolist()
            named = zip(FILE_JOINTS, angles, strict=True)
            path.write_text(json.dumps([{"name": f"mixamorig:{name}", "rot": rot} for name, rot in named]))
        else:
            assert cv2.imwrite(str(path), contents[modality])


def camera_points(random: np.random.Generator) -> NDArray[np.float64]:
    """Points (J, 3) in centimetres, in the camera's frame, within its view."""
    points = random.uniform([-45, -45, 40], [45, 45, 90], (len(FILE_JOINTS), 3))
    return np.asarray(points, np.float64)


def frame_json(points: NDArray[np.float64], pixels: NDArray[np.float64], *, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "char_height": 171.5,
        "camera": {"cam_fov": 120.0, "trans": [0.0, 170.0, 10.0], "rot": [-90.0, 0.0, 0.0]},
        "joints": [
            {"name": f"mixamorig:{name}", "trans": point.tolist(), "rot": [0.0, 0.0, 0.0]}
            for name, point in zip(FILE_JOINTS, points, strict=True)
        ],
        "pts2d_fisheye": pixels.T.tolist(),
        "pts3d_fisheye": points.T.tolist(),
    }


def background(random: np.random.Generator) -> NDArray[np.uint8]:
    """A dark image (800, 1280, 3) whose gradient betrays a shift; B, G and R differ."""
    columns, rows = np.meshgrid(np.arange(1280), np.arange(800))
    image = np.stack([columns // 20, rows // 16, (columns + rows) // 40 + random.integers(0, 8)], axis=2)
    return image.astype(np.uint8)


def paint_dots(image: NDArray[np.uint8], pixels: NDArray[np.float64]) -> None:
    """Paint a white dot of radius 4 on each training joint, centered to a sixteenth of a pixel."""
    for name, pixel in zip(FILE_JOINTS, pixels, strict=True):
        if name in JOINTS:
            center = np.round(pixel * 16).astype(int).tolist()
            cv2.circle(image, center, 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)


def world_positions() -> NDArray[np.uint16]:
    """A 16 bit image (800, 1280, 3) whose values say which pixel they come from."""
    columns, rows = np.meshgrid(np.arange(1280), np.arange(800))
    return np.stack([columns * 40, rows * 40, columns + rows], axis=2).astype(np.uint16)


def inside_square(pixels: NDArray[np.floating[Any]]) -> bool:
    """Tell whether pixels (n, 2) of the frame are well inside the center square."""
    return bool((np.abs(pixels - [240 + 399.5, 399.5]) < 380).all())


def plant_faults(dataset: TinyDataset) -> dict[tuple[str, int], str]:
    """Damage frames 1 to 12 of the first recording, each in its own way; return the reasons expected."""
    path = dataset.file
    path("rgba", 1).unlink()
    path("json", 2).unlink()
    path("worldp", 3).unlink()
    path("rgba", 4).write_bytes(b"")
    path("rgba", 5).write_bytes(path("rgba", 5).read_bytes()[:-2000])
    flipped = bytearray(path("rgba", 6).read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    path("rgba", 6).write_bytes(flipped)
    cv2.imwrite(str(path("rgba", 7)), np.zeros((480, 640, 3), np.uint8))
    path("worldp", 8).write_bytes(b"no image at all, but long enough to hold a header")
    dataset.edit_json(9, pts2d_fisheye=[[None] * len(FILE_JOINTS)] * 2)
    dataset.edit_json(10, pts3d_fisheye=[[], [], []])
    path("json", 11).write_bytes(b"")
    path("json", 12).write_bytes(path("json", 12).read_bytes()[:100])
    reasons = {
        1: "no rgba file",
        2: "no json file",
        3: "no worldp file",
        4: "rgba undecodable: the file is empty",
        5: "rgba undecodable: cut short",
        6: "rgba undecodable: damaged",
        7: "rgba is 640x480, not 1280x800",
        8: "worldp undecodable: not a PNG",
        9: "pts2d_fisheye lacks values",
        10: f"pts3d_fisheye has shape (3, 0), not (3, {len(FILE_JOINTS)})",
        11: "json file is empty",
    }
    return {("env_001", frame): reason for frame, reason in reasons.items()}
