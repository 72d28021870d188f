"""docs/extending.md takes a reader from a folder of images and a table of joints to a trained network, word by word."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engine.own_class import find_class
from loaders.codecs import encode
from loaders.format.manifest import Manifest
from tests.shard_factory import paint_blobs
from tools.sources import Source

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "docs/extending.md").read_text().partition("\n## Data\n")[2].partition("\n## ")[0]
RECORDINGS = {"anna-walk": ("train", 40), "carl-sit": ("train", 30), "dora-run": ("val", 16), "ben-sit": ("test", 16)}


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return str(found)


def write_frames(root: Path, source: Any) -> None:
    """The folder that the page assumes: a person before the camera, a dot on each joint."""
    random = np.random.default_rng(0)
    camera, joints = source.camera, source.skeleton.joints
    standing = {"Neck": (0, 0.3, 0.3), "Arm": (0.2, 0.3, 0.4), "ForeArm": (0.3, 0.2, 0.6), "Hand": (0.3, 0.0, 0.7)}
    standing |= {"UpLeg": (0.1, 0.3, 0.9), "Leg": (0.15, 0.2, 1.2), "Foot": (0.15, 0.3, 1.6)}
    rows = []
    for recording, (split, frames) in RECORDINGS.items():
        (root / recording).mkdir(parents=True)
        for frame in range(1, frames + 1):
            pose = []
            for joint in joints:
                x, y, z = standing[re.sub("Left|Right", "", joint)]
                # the wearer's left is on the right side of the image
                pose.append(np.array([-x if joint.startswith("Right") else x, y, z]) + random.normal(0, 0.05, 3))
            image = paint_blobs(camera, camera.project(np.array(pose)))
            (root / recording / f"{frame:06d}.jpg").write_bytes(encode(image, ".jpg", quality=95))
            subject, action = recording.split("-")
            row = {"recording": recording, "frame": frame, "split": split, "subject": subject, "action": action}
            for joint, place in zip(joints, pose, strict=True):
                row |= {f"{joint}_{axis}": value for axis, value in zip("xyz", place, strict=True)}
            rows.append(row)
    with (root / "joints.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_page_leads_from_a_folder_to_a_trained_network(tmp_path: Path) -> None:
    own, frames, shards, runs = (tmp_path / name for name in ("own_data.py", "FRAMES", "SHARDS", "runs"))
    own.write_text(block("python"))
    source = find_class(f"{own}:OwnData", Source)  # type: ignore[type-abstract]
    write_frames(frames, source)
    commands = [shlex.split(line, comments=True) for line in block("bash").replace("\\\n", " ").splitlines() if line]
    programs = {"python": [sys.executable], "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone"]}
    places = {"own_data.py": own, "FRAMES": frames, "SHARDS": shards, "runs": runs}
    said = []
    for program, *words in commands:
        here = [
            re.sub(r"^(own_data\.py|FRAMES|SHARDS|runs)\b", lambda name: str(places[name[0]]), word) for word in words
        ]
        done = subprocess.run(
            [*programs[program], *here],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, f"{program} {' '.join(here)}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    assert "102 frames in 4 recordings, 0 misaligned: nothing is wrong" in said[0]
    manifest = Manifest.read(shards)
    assert (manifest.dataset, manifest.skeleton, manifest.preprocessing.frame) == (
        "own",
        source.skeleton,
        source.camera,
    )
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 70, "val": 16, "test": 16}
    metrics = json.loads((runs / "report" / "metrics.json").read_text())
    assert metrics["frames_per_group"] == {"All": 16, "Resting": 16}
    assert list(metrics["joint_mpjpe_mm"]) == list(source.skeleton.joints)
    assert metrics["evaluation"]["dataset"] == "own"
    content = json.loads((runs / "poses" / "predictions.json").read_text())
    assert len(content["images"]) == 16
    assert list(content["images"][0]["joints_3d_m"]) == list(source.skeleton.joints)
    drawn = cv2.imread(str(runs / "poses" / "images" / "000001.jpg"))
    assert drawn.shape == (480, 640, 3)
    losses = [json.loads(line) for line in (runs / "2d" / "metrics.jsonl").read_text().splitlines()]
    errors = [entry["val/error_px"] for entry in losses if "val/error_px" in entry]
    assert errors[-1] < 40
