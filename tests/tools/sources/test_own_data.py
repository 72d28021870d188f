"""A dataset of another camera and other joints, read by a class of a user's file, from frames to shards and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from loaders.codecs import decode_exact, encode
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from models.camera import IN_IMAGE
from tests.engine.own_files import write_own
from tests.other_datasets import BODY
from tests.shard_factory import random_pose, world_positions
from tests.tools.shard_runs import ROOT, check, command, make, modified, numpy_of, skipped, tree
from tests.tools.sources.own_data import CAMERA, OWN, RECORDINGS, edit_labels, write_frames
from tests.tools.tiny_dataset import TinyDataset
from tools import validate
from tools.dataset.source import XR_EGOPOSE

WHOLE = ("--image-format", "png", "--image-size", str(CAMERA.height), "--samples-per-shard", "3")
"""The center square of each frame, pixel by pixel."""


def look(root: Path, own: str, *flags: str) -> int:
    return validate.main(["--dataset", str(root), "--source", own, "--workers", "1", *flags])


def folder(root: Path) -> Path:
    return root.joinpath(*RECORDINGS[0])


def test_shards_hold_its_frames_joints_and_words(frames: Path, own: str, tmp_path: Path) -> None:
    output = tmp_path / "set"
    assert make(frames, output, "--source", own, "--components", "rgba", "depth", *WHOLE) == 0
    manifest = Manifest.read(output)
    assert (manifest.dataset, manifest.skeleton, manifest.preprocessing.frame) == ("own", BODY, CAMERA)
    assert (manifest.action_groups, manifest.actions) == ({"Moving": ("walk",)}, ("walk",))
    assert (manifest.subjects, manifest.environments) == (("anna", "ben", "carl"), ("park", "stairs.2"))
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 8, "val": 4}
    left = (CAMERA.width - CAMERA.height) // 2
    for name, count in (("train", 8), ("val", 4)):
        split = ShardSet(output, name)
        for index in range(count):
            subject, environment, frame, _ = split.meta([index])[0]
            path = frames / name / manifest.subjects[subject] / manifest.environments[environment]
            joints_3d = np.array(json.loads((path / f"{frame}.json").read_text())["joints_3d"])
            pose = split.pose([index])[0]
            np.testing.assert_allclose(pose[:, 2:], joints_3d, atol=1e-6)
            np.testing.assert_allclose(pose[:, :2], CAMERA.project(joints_3d) - [left, 0], atol=1e-3)
            members = {member: split.span(index, member) for member in split.members}
            assert list(members) == ["rgba.png", "depth.png", "pose.npy", "meta.npy", "visible.npy"]
            data = (output / name / f"{name}-{index // 3:06d}.tar").read_bytes()
            contents = {member: data[at : at + size] for member, (at, size) in members.items()}
            depth = decode_exact(np.frombuffer(contents["depth.png"], np.uint8))
            np.testing.assert_array_equal(depth[:, :, 0], world_positions(CAMERA)[:, left : left + CAMERA.height, 0])
            assert (numpy_of(contents["visible.npy"]) == IN_IMAGE).all()
    assert check(output, "--deep", "--dataset", str(frames), "--source", own) == 0


def test_components_are_those_that_it_has(
    frames: Path, own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(frames, tmp_path / "set", "--source", own, "--image-size", "64") == 0
    assert Manifest.read(tmp_path / "set").options["components"] == ["rgba"]
    capsys.readouterr()
    assert make(frames, tmp_path / "other", "--source", own, "--components", "rgba", "worldp") == 2
    assert "own has no worldp: --components takes rgba, depth" in capsys.readouterr().err


def test_frames_are_kept_as_they_are_if_they_are_pngs(
    tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_frames(tmp_path / "frames", 2)
    assert make(root, tmp_path / "set", "--source", own, "--image-format", "source") == 2
    assert "take jpeg, png or raw" in capsys.readouterr().err
    images = {}
    for path in root.rglob("*.jpg"):
        images[path] = encode(np.full((CAMERA.height, CAMERA.width, 3), len(images), np.uint8), ".png")
        path.write_bytes(images[path])
    assert make(root, tmp_path / "whole", "--source", own, "--image-format", "source") == 0
    data = b"".join(path.read_bytes() for path in (tmp_path / "whole").rglob("*.tar"))
    assert all(image in data for image in images.values())
    assert check(tmp_path / "whole", "--deep", "--dataset", str(root), "--source", own) == 0


def test_pixels_are_stored_like_a_file(frames: Path, tmp_path: Path) -> None:
    decoding = OWN.replace(
        'return (recording.path / f"{frame}.jpg").read_bytes()',
        "import cv2; return cv2.imread(str(recording.path / f'{frame}.jpg'))[:, :, ::-1]",
    )
    output = {}
    for name, text in (("bytes", OWN), ("pixels", decoding)):
        (tmp_path / name).mkdir()
        output[name] = tmp_path / name / "set"
        own = f"{write_own(tmp_path / name, text)}:Own"
        assert make(frames, output[name], "--source", own, "--image-size", "96") == 0
    assert decoding != OWN
    assert tree(output["bytes"]) == tree(output["pixels"])


def test_useless_frames_are_skipped_and_doubtful_labels_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_frames(tmp_path / "frames", 12)
    blurred = 'if frame == 20: raise FrameError("blurred: the lens was wet")'
    before = "def image(self, recording, frame):\n"
    own = f"{write_own(tmp_path, OWN, (before, f'{before}        {blurred}' + chr(10)))}:Own"
    image = folder(root) / "10.jpg"
    damaged = bytearray(image.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 50] = bytes(50)  # OpenCV decodes around it
    image.write_bytes(damaged)
    (folder(root) / "11.jpg").write_bytes(encode(np.zeros((480, 640, 3), np.uint8), ".jpg"))
    (folder(root) / "12.jpg").write_bytes(b"")
    joints_2d, joints_3d = random_pose(CAMERA, np.random.default_rng(5), len(BODY))
    lacking, far = joints_3d.copy(), joints_3d.copy()
    lacking[3] = np.nan
    far[3] *= 20
    edit_labels(root, 13, joints_3d=lacking.tolist())
    edit_labels(root, 14, joints_3d=far.tolist())
    edit_labels(root, 15, joints_2d=(joints_2d + np.array([1.5, 0])).tolist(), joints_3d=joints_3d.tolist())
    edit_labels(root, 16, joints_2d=(joints_2d + np.array([0.5, 0])).tolist(), joints_3d=joints_3d.tolist())
    for frame in ("-3", str(2**31)):
        for ending in ("json", "jpg", "depth.png"):
            (folder(root) / f"{frame}.{ending}").write_bytes((folder(root) / f"19.{ending}").read_bytes())
    (folder(root) / "17.depth.png").write_bytes(b"")
    useless = {
        -3: "frame number below 0",
        10: "rgba undecodable: damaged",
        11: "rgba is 640x480, not 640x512",
        12: "rgba undecodable: damaged",
        13: "joints_3d lacks values",
        17: "depth undecodable: the file is empty",
        20: "blurred: the lens was wet",
        2**31: "frame number beyond 32 bits",
    }
    output = tmp_path / "set"
    assert make(root, output, "--source", own, "--components", "rgba", "depth", "--image-size", "64") == 0
    said = capsys.readouterr()
    assert {frame: reason for (_, frame), reason in skipped(output).items()} == useless
    assert "1 frames with a joint more than 3 m from the camera" in said.err
    assert check(output, "--dataset", str(root), "--source", own) == 1
    assert "1 findings" in capsys.readouterr().out

    report = tmp_path / "report.json"
    assert look(root, own, "--deep", "--report", str(report)) == 1
    found = json.loads(report.read_text())
    faults = {reason: found["frames"] for reason, found in found["recordings"][0]["faults"].items()}
    doubtful = {
        "a joint more than 3 m from the camera": [14],
        "2D labels more than 1 pixel off the camera model": [15],
    }
    expected: dict[str, list[int]] = {}
    for frame, reason in useless.items():
        expected.setdefault(reason.partition(": ")[0] if frame == 20 else reason, []).append(frame)
    merged = {reason.partition(":")[0]: frames for reason, frames in (expected | doubtful).items()}
    assert {reason.partition(":")[0]: frames for reason, frames in faults.items()} == merged
    assert found["modalities"] == ["rgba", "depth"]
    assert look(root, own, "--prune", str(tmp_path / "aside")) == 2
    assert "--prune knows the files of xR-EgoPose alone, not those of own" in capsys.readouterr().err


def test_the_table_lists_recordings(frames: Path, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(frames, own, "--deep") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["split", "subject", "environment", "frames", "rgba", "depth", "faulty", "pairing"]
    assert lines[1:4] == [[*recording, "4", "4", "4", "0", "complete"] for recording in RECORDINGS]
    assert " ".join(lines[4]) == "12 frames in 3 recordings, 0 misaligned: nothing is wrong"


def test_what_changed_since_is_found(tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_frames(tmp_path / "frames")
    output = tmp_path / "set"
    assert make(root, output, "--source", own, "--image-size", "96") == 0
    edit_labels(root, 10, action="run")
    edit_labels(root, 11, joints_3d=random_pose(CAMERA, np.random.default_rng(5), len(BODY))[1].tolist())
    (folder(root) / "12.jpg").write_bytes((folder(root) / "13.jpg").read_bytes())
    capsys.readouterr()
    given = ("--dataset", str(root), "--source", own)
    assert check(output, "--deep", *given) == 1
    said = capsys.readouterr().out
    for words in (
        "anna-park-000010: its action is walk, the dataset's run",
        "anna-park-000011: its pose is not the dataset's",
        "anna-park-000012: its rgba.jpg is not the dataset's",
        ": 3 findings",
    ):
        assert words in said
    assert check(output, "--dataset", str(root)) == 2
    assert (
        "the shards are of own, and --source tools.dataset.source:XrEgoPose reads xR-EgoPose" in capsys.readouterr().err
    )
    assert check(output, "--source", own) == 2
    assert "add --dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "own"', 'name = "owned"'), "with dataset own, not owned"),
        (('FRAMES["ocam"]', 'FRAMES["pinhole"]'), "with another camera"),
        (("skeleton = BODY", "skeleton = __import__('dataclasses').replace(BODY, head=None)"), "with another skeleton"),
        (('"Moving": ["walk"]', '"Moving": ["walk", "run"]'), "with another action groups"),
    ],
)
def test_a_set_of_another_source_is_not_taken_for_finished(  # noqa: PLR0917 - fixtures
    frames: Path, own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: str
) -> None:
    output = tmp_path / "set"
    flags = ("--split", "val", "--components", "depth", "--image-size", "64")
    assert make(frames, output, "--source", own, *flags) == 0
    assert make(frames, output, "--source", own, *flags) == 0
    assert "finished already" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    other = f"{write_own(tmp_path / 'other', OWN, change)}:Own"
    assert make(frames, output, "--source", other, *flags) == 2
    assert words in capsys.readouterr().err


def test_the_release_by_its_name_gives_the_same_bytes(dataset: TinyDataset, shards: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    assert make(dataset.root, output, "--source", XR_EGOPOSE, "--samples-per-shard", "4") == 0
    assert tree(output) == tree(shards)
    assert check(output, "--dataset", str(dataset.root), "--source", XR_EGOPOSE) == 0


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_bytes(frames: Path, own: str, tmp_path: Path) -> None:
    flags = ("--components", "rgba", "depth", "--image-size", "64", "--samples-per-shard", "3")
    assert make(frames, tmp_path / "one", "--source", own, *flags) == 0
    # by a path of the working folder, as a user types it
    local = ("--source", "own.py:Own", *flags, "--workers", "2")
    done = subprocess.run(
        command(frames, tmp_path / "two", *local),
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    given = ["--dataset", str(frames), "--source", own, "--workers", "2"]
    assert check(tmp_path / "two", "--deep", *given) == 0
    assert validate.main(given) == 0


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path, own: str) -> None:
    root = write_frames(tmp_path / "frames", 12)
    flags = ("--source", own, "--image-size", "64", "--samples-per-shard", "2")
    assert make(root, tmp_path / "whole", *flags) == 0
    output = tmp_path / "set"
    made = ShardSet(tmp_path / "whole", "train")
    subject, environment, frame, _ = made.meta([20])[0]  # behind those that sizes are estimated by
    gate = root / "train" / made.manifest.subjects[subject] / made.manifest.environments[environment] / f"{frame}.jpg"
    image = gate.read_bytes()
    gate.unlink()
    os.mkfifo(gate)  # nobody writes: a worker comes to a stop at it
    process = subprocess.Popen(
        command(root, output, *flags, "--workers", "2"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(list(output.glob("train/*.tar"))) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gate.unlink()
    gate.write_bytes(image)
    kept = modified(output)
    assert make(root, output, *flags) == 0
    assert kept.items() <= modified(output).items()
    assert tree(output) == tree(tmp_path / "whole")
