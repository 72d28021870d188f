"""Sources of users' own: what they say becomes shards, and what they do wrong is one line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loaders.codecs import decode, encode
from loaders.errors import InputError
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet
from models.camera import PinholeCamera
from tests.engine.own_files import write_own
from tests.tools.shard_runs import ROOT, make, tree
from tests.tools.tiny_dataset import make_dataset
from tools.shard import main as shard
from tools.sources import FrameError
from tools.sources.opening import find_recordings, open_source, read_image, read_labels
from tools.validate import main as validate
from tools.verify import main as verify

SOURCE = """
    import json
    from pathlib import Path

    import numpy as np

    from models.camera import PinholeCamera
    from models.skeleton import Skeleton
    from tools.sources import FrameError, FrameLabels, Recording, Source

    class Tiny(Source):
        name = "tiny"
        camera = PinholeCamera(64, 48, 40.0, 41.0, 31.0, 24.0)
        skeleton = Skeleton.of({"hips": None, "hand_l": "hips", "hand_r": "hips"})
        components = ("rgba", "json")

        def recordings(self):
            return [Recording(split, split, name, self.root / name)
                    for split, name in (("train", "walk"), ("train", "sit"), ("test", "run"))]

        def frames(self, recording):
            return range(1, 6)

        def labels(self, recording, frame):
            if frame == 5:
                raise FrameError("the clock stood still")
            random = np.random.default_rng([frame, len(recording.name)])
            points = np.array([0, 0, 1.2]) + random.uniform(-0.2, 0.2, (3, 3))
            return FrameLabels(joints_3d=points, action=recording.name)

        def image(self, recording, frame):
            return np.random.default_rng(frame).integers(0, 256, (48, 64, 3), np.uint8)

        def component(self, recording, frame, name):
            return json.dumps({"frame": frame}).encode()
"""


PIXELS = "return np.random.default_rng(frame).integers(0, 256, (48, 64, 3), np.uint8)"


@pytest.fixture
def own(tmp_path: Path) -> str:
    return f"{write_own(tmp_path, SOURCE)}:Tiny"


def flags(own: str, tmp_path: Path, *more: str) -> list[str]:
    return ["--dataset", str(tmp_path), "--source", own, *more]


def made(own: str, tmp_path: Path, name: str, *more: str, workers: int = 1) -> Path:
    output = tmp_path / name
    given = flags(own, tmp_path, "--output", str(output), "--image-size", "32", "--samples-per-shard", "3")
    assert shard([*given, "--workers", str(workers), *more]) == 0
    return output


def test_its_camera_joints_pixels_and_texts_are_in_the_shards(tmp_path: Path, own: str) -> None:
    shards = made(own, tmp_path, "shards", "--image-format", "raw")
    manifest = Manifest.read(shards)
    camera = PinholeCamera(64, 48, 40.0, 41.0, 31.0, 24.0)
    assert (manifest.dataset, manifest.skeleton.joints) == ("tiny", ("hips", "hand_l", "hand_r"))
    assert (manifest.preprocessing.frame, manifest.camera) == (camera, camera.cropped("square", 32))
    assert (manifest.action_groups, manifest.actions) == ({}, ("run", "sit", "walk"))
    assert manifest.options["components"] == ["rgba", "json"]
    assert [(one.environment, one.frame, one.reason) for one in manifest.splits["train"].skipped] == [
        ("sit", 5, "the clock stood still"),
        ("walk", 5, "the clock stood still"),
    ]
    split = ShardSet(shards, "train")
    assert split.pose(range(8)).shape == (8, 3, 5)
    for index in range(8):
        _, environment, frame, action = split.meta([index])[0].tolist()
        name = manifest.environments[environment]
        points = np.array([0, 0, 1.2]) + np.random.default_rng([frame, len(name)]).uniform(-0.2, 0.2, (3, 3))
        pose = split.pose([index])[0]
        np.testing.assert_allclose(pose[:, 2:], points, atol=1e-6)
        np.testing.assert_allclose(pose[:, :2], manifest.camera.project(points), atol=1e-4)
        assert manifest.actions[action] == name
        assert json.loads(split.member(index, "json").tobytes()) == {"frame": frame}
        image = split.member(index, "rgba.npy")[-32 * 32 * 3 :].reshape(32, 32, 3)
        frame_image = np.random.default_rng(frame).integers(0, 256, (48, 64, 3), np.uint8)
        np.testing.assert_array_equal(image, np.load(_npy(manifest, frame_image)))


def _npy(manifest: Manifest, image: np.ndarray) -> Path:
    """What the one function that stores frames makes of this image, which another test compares with others."""
    import io

    return io.BytesIO(manifest.preprocessing.encode(image))  # type: ignore[return-value]


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path, own: str) -> None:
    """Two of them are processes that know nothing of the user's file but its name."""
    alone = made(own, tmp_path, "alone")
    assert tree(alone) == tree(made(own, tmp_path, "together", workers=2))


@pytest.mark.slow
def test_a_process_of_its_own_opens_it_anew(tmp_path: Path, own: str) -> None:
    opened, file = pickle.dumps(open_source(own, tmp_path)), tmp_path / "opened.pkl"
    file.write_bytes(opened)
    code = f"import pickle; source = pickle.load(open({str(file)!r}, 'rb')); print(source.name, source.root)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["tiny", str(tmp_path)]
    assert pickle.loads(opened) is open_source(own, tmp_path), "each process opens it once"


def test_validate_and_verify_know_it(tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(flags(own, tmp_path, "--deep", "--report", str(tmp_path / "report.json"))) == 1
    said = capsys.readouterr().out
    assert "split  subject  environment  frames  rgba  json  faulty  pairing" in said
    assert "FAULT train walk: the clock stood still: 1 frames: 000005" in said
    assert "15 frames in 3 recordings, 0 misaligned: 3 of them faulty" in said
    assert json.loads((tmp_path / "report.json").read_text())["faults"] == {"the clock stood still": 3}
    shards = made(own, tmp_path, "shards")
    given = ["--shards", str(shards), "--dataset", str(tmp_path), "--deep"]
    assert verify([*given, "--source", own]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert verify(given) == 2
    assert (
        "the shards are of tiny, and --source tools.dataset.source:XrEgoPose reads xR-EgoPose"
        in capsys.readouterr().err
    )
    # other labels, and a frame more
    other = write_own(tmp_path, SOURCE, ("1.2", "1.3"), ("range(1, 6)", "range(1, 7)"))
    assert verify([*given, "--source", f"{other.rename(tmp_path / 'other.py')}:Tiny"]) == 1
    said = capsys.readouterr().out
    assert said.count("its pose is not the dataset's") == 12
    assert said.count("000006 is in the dataset, but neither stored nor listed as skipped") == 3


def test_another_skeleton_is_another_shard_set(tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    shards = made(own, tmp_path, "shards")
    before = tree(shards)
    given = ("--output", str(shards), "--image-size", "32", "--samples-per-shard", "3")
    assert shard(flags(own, tmp_path, *given)) == 0
    assert "is finished already" in capsys.readouterr().out
    for change, said in (
        (('"hand_r": "hips"', '"hand_r": "hand_l"'), "with another skeleton"),
        (("40.0, 41.0", "40.0, 42.0"), "with another camera"),
        (('name = "tiny"', 'name = "huge"'), "with dataset tiny, not huge"),
    ):
        other = write_own(tmp_path, SOURCE, change).rename(tmp_path / f"other{len(said)}.py")
        assert shard(flags(f"{other}:Tiny", tmp_path, *given)) == 2
        assert said in capsys.readouterr().err
    assert tree(shards) == before


@pytest.mark.slow
def test_the_released_dataset_by_its_name_is_the_same(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 3)
    more = ("--source", "tools.dataset.source:XrEgoPose")
    assert make(dataset.root, tmp_path / "plain") == make(dataset.root, tmp_path / "named", *more, workers=2) == 0
    assert tree(tmp_path / "plain") == tree(tmp_path / "named")


WRONG = {
    "no class": ([("class Tiny", "class Other")], "own.py has no class Tiny; it has Other"),
    "no method": ([("def image", "def picture")], "Tiny lacks image: see tools.sources.Source"),
    "no camera": ([("camera = Pin", "lens = Pin")], "has as its camera a NoneType, not a Camera"),
    "skeleton": ([('{"hips": None', '{"hips": "knee"')], "cannot be imported: ValueError: knee is none of its joints"),
    "opening": (
        [("def recordings", "def __init__(self, root):\n        1 / 0\n\n    def recordings")],
        "ZeroDivisionError",
    ),
    "split": ([('"test", "run"', '"exam", "run"')], "has a recording of the split 'exam': give train, val, test"),
    "recording": (
        [("Recording(split, split, name, self.root / name)", "name")],
        "as a recording a str, not a Recording",
    ),
    "twice": ([('"sit"', '"walk"')], "has two recordings train walk in train"),
    "unprintable": ([('"sit"', '"s\\nit"')], "names are texts that can be printed"),
    "frame": ([("range(1, 6)", '["1"]')], "TypeError: 'str' object cannot be interpreted as an integer"),
    "frame twice": ([("range(1, 6)", "[1, 1]")], "lists frame 1 of"),
    "labels": ([("return FrameLabels(joints_3d=points, action=recording.name)", "return points")], "not a FrameLabels"),
    "shape": (
        [("(3, 3)", "(4, 3)"), ("np.array([0, 0, 1.2]) + ", "")],
        "joints_3d of shape (4, 3); its skeleton wants (3, 3)",
    ),
    "raises": ([("if frame == 5", "if frame / 0")], "sit, frame 1: ZeroDivisionError: division by zero"),
    "image": ([("(48, 64, 3), np.uint8)", "(48, 64, 3), np.int64)")], "returns an image int64 (48, 64, 3): give uint8"),
    "no image": (
        [(PIXELS, "return None")],
        "a NoneType, not a bytes",
    ),
    "component": ([(".encode()", "")], "returns as json of"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_a_class_does_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    changes, message = WRONG[fault]
    own = f"{write_own(tmp_path, SOURCE, *changes)}:Tiny"
    assert shard(flags(own, tmp_path, "--output", str(tmp_path / "out"), "--workers", "1")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("tools.shard: error: ")
    assert message in said
    assert "own.py" in said


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("joints_3d=points", "joints_3d=points * np.nan", "joints_3d lacks values"),
        ("(48, 64, 3)", "(64, 48, 3)", "rgba is 48x64, not 64x48"),
        (PIXELS, 'return b"GIF"', "rgba undecodable: damaged"),
        ("range(1, 6)", "[2**31]", "frame number beyond 32 bits"),
        ('"walk"', '"w" * 90', "too long for a tar"),
        (
            "joints_3d=points",
            "joints_3d=points, joints_2d=points[:, :2] * 1e40",
            "joints_2d holds values beyond 32 bits",
        ),
    ],
)
def test_a_frame_that_is_of_no_use_is_left_out(tmp_path: Path, before: str, after: str, reason: str) -> None:
    own = f"{write_own(tmp_path, SOURCE, (before, after), ('if frame == 5', 'if frame == 0'))}:Tiny"
    source = open_source(own, tmp_path)
    recording = find_recordings(source, ["train"])[-1]
    given = flags(
        own, tmp_path, "--output", str(tmp_path / "out"), "--workers", "1", "--split", "train", "--image-size", "32"
    )
    shard(given)  # where no frame is left there is no set
    inspection = source.inspect(recording, _NoProgress(), components=("rgba", "json"), deep=True)
    assert any(reason.partition(": ")[0] in defect for defect in inspection.defects), inspection.defects
    if (tmp_path / "out" / "manifest.json").is_file():
        skipped = Manifest.read(tmp_path / "out").splits["train"].skipped
        assert any(reason in one.reason for one in skipped)


class _NoProgress:
    def add(self, units: int, size: int = 0) -> None:
        pass


def test_labels_that_do_not_fit_the_camera_are_found_but_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [("joints_3d=points,", "joints_3d=points, joints_2d=self.camera.project(points) + [1.5, 0],")]
    own = f"{write_own(tmp_path, SOURCE, *changes)}:Tiny"
    assert validate(flags(own, tmp_path)) == 1
    assert "FAULT train walk: 2D labels more than 1 pixel off the camera model: 4 frames" in capsys.readouterr().out
    assert Manifest.read(made(own, tmp_path, "shards")).splits["train"].samples == 8


def test_files_of_any_kind_are_images_and_png_alone_is_kept_as_it_is(
    tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for ending in (".jpg", ".png", ".bmp"):
        (tmp_path / f"a{ending}").write_bytes(encode(image, ending))
        change = (PIXELS, f'return Path("{tmp_path}/a{ending}").read_bytes()')
        file = write_own(tmp_path, SOURCE, change).rename(tmp_path / f"own_{ending[1:]}.py")
        kept = flags(f"{file}:Tiny", tmp_path, "--output", str(tmp_path / f"kept{ending}"), "--image-format", "source")
        assert shard([*kept, "--workers", "1"]) == (0 if ending == ".png" else 2)
        if ending != ".png":
            assert "keeps PNG files as they are, and frames are none: take jpeg, png or raw" in capsys.readouterr().err
        shards = made(f"{file}:Tiny", tmp_path, f"made{ending}", "--image-format", "png")
        stored = decode(ShardSet(shards, "test").member(0, "rgba.png"))
        expected = Manifest.read(shards).preprocessing.encode(
            decode(np.frombuffer((tmp_path / f"a{ending}").read_bytes(), np.uint8))
        )
        np.testing.assert_array_equal(stored, decode(np.frombuffer(expected, np.uint8)))


def test_what_it_lacks_cannot_be_asked_for(tmp_path: Path, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = flags(own, tmp_path, "--output", str(tmp_path / "out"))
    assert shard([*given, "--components", "rgba", "depth"]) == 2
    assert "tiny has no depth: --components takes rgba, json" in capsys.readouterr().err
    assert shard([*given, "--subjects", "nobody"]) == 2
    assert f"no subject nobody below {tmp_path}" in capsys.readouterr().err
    assert shard([*given, "--split", "val"]) == 2
    assert "holds no recordings of val that" in capsys.readouterr().err
    assert validate(flags(own, tmp_path, "--prune", str(tmp_path / "aside"))) == 2
    assert "--prune knows the files of xR-EgoPose alone, not those of tiny" in capsys.readouterr().err


def test_what_reads_a_frame_says_why_there_is_none(tmp_path: Path, own: str) -> None:
    source = open_source(own, tmp_path)
    recording = find_recordings(source, ["train"])[0]
    with pytest.raises(FrameError, match="the clock stood still"):
        read_labels(source, recording, 5)
    assert read_image(source, recording, 1).shape == (48, 64, 3)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="is no file"):
        open_source("absent.py:Tiny", tmp_path)
