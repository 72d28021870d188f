from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from loaders.manifest import Manifest
from loaders.shard_set import ShardSet, read_index
from models.camera import XR_EGOPOSE
from tests.tools.tiny_dataset import TinyDataset, make_dataset, world_positions
from tools import shard
from tools.dataset import read_labels
from tools.shard import share_cores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), 5, environments=("env_001", "env 02"))


@pytest.fixture(scope="module")
def shards(dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shards") / "set"
    assert make(dataset.root, output, "--samples-per-shard", "4") == 0
    return output


def make(root: Path, output: Path, *flags: str, workers: int = 1) -> int:
    return shard.main(["--root", str(root), "--output", str(output), "--workers", str(workers), *flags])


def tree(folder: Path) -> dict[str, str]:
    """Name and checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_out(output: Path, split: str = "train") -> dict[tuple[str, int], str]:
    return {(frame.environment, frame.frame): frame.reason for frame in Manifest.read(output).splits[split].left_out}


def numpy_of(content: bytes) -> Any:
    return np.load(io.BytesIO(content))


def test_a_sample_holds_the_members_in_order_with_their_types_and_values(dataset: TinyDataset, shards: Path) -> None:
    manifest = Manifest.read(shards)
    seen = set()
    for tar_path in sorted(shards.glob("*/*.tar")):
        with tarfile.open(tar_path) as tar:
            members = tar.getmembers()
            content = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        for at in range(0, len(members), 5):
            group = [member.name.partition(".") for member in members[at : at + 5]]
            key = group[0][0]
            assert [(k, extension) for k, _, extension in group] == [
                (key, name) for name in ("rgba.jpg", "json", "worldp.png", "pose.npy", "meta.npy")
            ]
            meta, pose = numpy_of(content[f"{key}.meta.npy"]), numpy_of(content[f"{key}.pose.npy"])
            assert (meta.dtype, meta.shape, pose.dtype, pose.shape) == (np.int32, (4,), np.float32, (16, 5))
            subject, environment = manifest.subjects[meta[0]], manifest.environments[meta[1]]
            assert key == f"{subject}-{environment.replace(' ', '_')}-{meta[2]:06d}"
            source = next(r for r in dataset.recordings if (r.subject, r.name) == (subject, environment))
            text = source.file("json", int(meta[2])).read_bytes()
            assert content[f"{key}.json"] == text
            labels = read_labels(text)
            assert manifest.actions[meta[3]] == labels.action
            np.testing.assert_allclose(pose[:, 2:], labels.joints_3d, rtol=1e-6)
            u, v = labels.joints_2d.T
            np.testing.assert_allclose(pose[:, 0], (u - 240 + 0.5) * 368 / 800 - 0.5, atol=1e-4)
            np.testing.assert_allclose(pose[:, 1], (v + 0.5) * 368 / 800 - 0.5, atol=1e-4)
            assert source.split == tar_path.parent.name
            seen.add(key)
        assert {(m.uid, m.gid, m.mtime, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
    assert len(seen) == 20


def test_the_manifest_says_what_was_made(shards: Path) -> None:
    manifest = Manifest.read(shards)
    assert manifest.camera == XR_EGOPOSE.centre_square(368)
    assert manifest.options["image_format"] == "jpeg"
    assert manifest.environments == ("env 02", "env_001")
    for name, split in manifest.splits.items():
        assert [entry.samples for entry in split.shards] == [4, 4, 2]
        for entry in split.shards:
            content = (shards / name / entry.name).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.bytes, entry.sha256)
    expected = {
        "manifest.json",
        *(f"{s}/{s}-{i:06d}.{e}" for s in ("train", "test") for i in range(3) for e in ("tar", "idx")),
    }
    assert set(tree(shards)) == expected


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_a_painted_dot_lies_under_its_joint(tmp_path: Path, image_format: str) -> None:
    dataset = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "--image-format", image_format) == 0
    split = ShardSet(tmp_path / "set", "train")
    member = split.manifest.image_member
    assert member is not None
    for index in range(2):
        content = split.member(index, member).tobytes()
        image = numpy_of(content) if image_format == "raw" else cv2.imdecode(np.frombuffer(content, np.uint8), 1)
        assert image.shape == ((800, 1280, 3) if image_format == "source" else (368, 368, 3))
        pose, found = split.pose([index])[0], 0
        for joint, (u, v) in enumerate(pose[:, :2]):
            apart = np.linalg.norm(np.delete(pose[:, :2], joint, axis=0) - [u, v], axis=1).min()
            if apart > 14:
                x, y, r = round(float(u)), round(float(v)), 6
                window = image[y - r : y + r + 1, x - r : x + r + 1].mean(axis=2) - 60
                weight = np.clip(window, 0, None)
                rows, columns = np.mgrid[y - r : y + r + 1, x - r : x + r + 1]
                centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                np.testing.assert_allclose(centre, [u, v], atol=0.5)
                found += 1
        assert found >= 4


def test_raw_is_rgb_and_equals_png(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 2, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    for image_format in ("png", "raw"):
        flags = ("--components", "rgba", "--image-format", image_format, "--image-size", "128")
        assert make(dataset.root, tmp_path / image_format, *flags) == 0
    png, raw = ShardSet(tmp_path / "png", "train"), ShardSet(tmp_path / "raw", "train")
    frame = cv2.imread(str(dataset.file("rgba", int(raw.meta([0])[0, 2]))), cv2.IMREAD_COLOR)
    assert frame is not None
    decoded = cv2.imdecode(png.member(0, "rgba.png"), cv2.IMREAD_COLOR)
    assert decoded is not None
    stored = numpy_of(raw.member(0, "rgba.npy").tobytes())
    assert (stored.dtype, stored.shape) == (np.uint8, (128, 128, 3))
    np.testing.assert_array_equal(stored[:, :, ::-1], decoded)
    np.testing.assert_array_equal(decoded, cv2.resize(frame[:, 240:1040], (128, 128), interpolation=cv2.INTER_AREA))


def test_source_keeps_the_files(dataset: TinyDataset, tmp_path: Path) -> None:
    assert make(dataset.root, tmp_path / "set", "--image-format", "source", "--split", "test") == 0
    split = ShardSet(tmp_path / "set", "test")
    assert split.camera == XR_EGOPOSE
    for index in range(len(split)):
        subject, environment, frame, _ = split.meta([index])[0]
        names = split.manifest.subjects[subject], split.manifest.environments[environment]
        source = next(r for r in dataset.recordings if (r.subject, r.name) == names)
        for component, member in (("rgba", "rgba.png"), ("worldp", "worldp.png")):
            assert split.member(index, member).tobytes() == source.file(component, int(frame)).read_bytes()
        labels = read_labels(source.file("json", int(frame)).read_bytes())
        np.testing.assert_allclose(split.pose([index])[0, :, :2], labels.joints_2d, atol=1e-3)


def test_worldp_keeps_its_depth_channels_and_place(shards: Path) -> None:
    split = ShardSet(shards, "train")
    stored = cv2.imdecode(split.member(0, "worldp.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (stored.dtype, stored.shape) == (np.uint16, (368, 368, 3))
    # each value says which pixel it came from: the one under the stored pixel's centre
    place = (np.arange(368) + 0.5) * 800 / 368
    tie = place == np.round(place)  # halfway between two pixels, either will do
    under = np.floor(place).astype(int)
    expected = world_positions()[under][:, 240 + under]
    np.testing.assert_array_equal(stored[~tie][:, ~tie], expected[~tie][:, ~tie])


def test_the_order_is_global_and_depends_on_the_seed(dataset: TinyDataset, shards: Path, tmp_path: Path) -> None:
    first = ShardSet(shards, "train").labels()[1]
    assert len({tuple(row[:3]) for row in first.tolist()}) == 10
    assert len({row[1] for row in first[:4].tolist()}) == 2, "a shard mixes recordings"
    assert sorted(map(tuple, first.tolist())) != list(map(tuple, first.tolist()))
    assert make(dataset.root, tmp_path / "other", "--seed", "1", "--components", "json") == 0
    other = ShardSet(tmp_path / "other", "train").labels()[1]
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(other, axis=0))


def test_two_workers_write_the_same_bytes(dataset: TinyDataset, shards: Path, tmp_path: Path) -> None:
    assert make(dataset.root, tmp_path / "two", "--samples-per-shard", "4", workers=2) == 0
    assert tree(tmp_path / "two") == tree(shards)


def test_cores_are_shared_so_that_none_idles() -> None:
    assert share_cores(1, 5) == (1, 1)
    assert share_cores(2, 93) == (2, 1)
    assert share_cores(2, 1) == (1, 2)
    assert share_cores(2, 3) == (1, 2), "two processes would leave one core idle during the third shard"
    assert share_cores(64, 93) == (32, 2)
    for cores in (1, 2, 7, 32):
        for jobs in (1, 2, 5, 40):
            processes, threads = share_cores(cores, jobs)
            assert processes * threads <= cores


def test_files_pair_by_number_where_positions_disagree(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 6, subjects=[("train", "female_003_a_a")], modalities=("rgba", "json"))
    dataset.file("rgba", 2).unlink()
    dataset.file("json", 5).unlink()
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "json", "--image-format", "source") == 0
    split = ShardSet(tmp_path / "set", "train")
    assert sorted(split.meta(range(len(split)))[:, 2]) == [1, 3, 4, 6]
    for index in range(len(split)):
        frame = int(split.meta([index])[0, 2])
        assert split.member(index, "rgba.png").tobytes() == dataset.file("rgba", frame).read_bytes()
        assert split.member(index, "json").tobytes() == dataset.file("json", frame).read_bytes()
    assert left_out(tmp_path / "set") == {("env_001", 2): "no rgba file", ("env_001", 5): "no json file"}


def test_a_frame_of_which_only_another_modality_is_left_is_listed(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 3, subjects=[("train", "female_001_a_a")])
    for modality in ("rgba", "json", "worldp", "objectId"):
        dataset.file(modality, 3).unlink()
    assert make(dataset.root, tmp_path / "set") == 0
    assert left_out(tmp_path / "set") == {("env_001", 3): "no json file, no rgba file, no worldp file"}


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
    path("worldp", 8).write_bytes(b"no picture at all, but long enough to hold a header")
    table = json.loads(path("json", 9).read_text())["pts2d_fisheye"]
    dataset.edit_json(9, pts2d_fisheye=[[None, *table[0][1:]], [None, *table[1][1:]]])
    dataset.edit_json(9, pts2d_fisheye=[[None] * len(table[0]), [None] * len(table[0])])
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
        10: f"pts3d_fisheye has shape (3, 0), not (3, {len(table[0])})",
        11: "json file is empty",
    }
    return {("env_001", frame): reason for frame, reason in reasons.items()}


def test_every_unusable_frame_is_left_out_with_its_reason_and_no_other(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 14, subjects=[("train", "female_001_a_a")])
    expected = plant_faults(dataset)
    dataset.edit_json(13, char_height=None)  # known to happen, and harmless
    assert make(dataset.root, tmp_path / "one", "--samples-per-shard", "1") == 0
    found = left_out(tmp_path / "one")
    assert found.pop(("env_001", 12)).startswith("not JSON: ")
    assert found == expected
    split = ShardSet(tmp_path / "one", "train", checksums=True)
    assert sorted(split.meta(range(len(split)))[:, 2]) == [13, 14]
    # the same frames by two workers, and without the component that two of them lack
    assert make(dataset.root, tmp_path / "two", "--samples-per-shard", "1", workers=2) == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert make(dataset.root, tmp_path / "pictures", "--components", "rgba") == 0
    assert set(found) - set(left_out(tmp_path / "pictures")) == {("env_001", 3), ("env_001", 8)}


@pytest.mark.parametrize(("modality", "reason"), [("json", "no json file"), ("rgba", "cut short")])
def test_on_defect_fail_stops_and_names_the_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], modality: str, reason: str
) -> None:
    dataset = make_dataset(tmp_path / "data", 3, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    path = dataset.file(modality, 2)
    content = path.read_bytes()
    if modality == "json":
        path.unlink()
    else:
        path.write_bytes(content[:-100])
    flags = ("--on-defect", "fail", "--components", "rgba")
    assert make(dataset.root, tmp_path / "set", *flags) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert reason in message
    assert "2" in message
    assert "--on-defect skip" in message
    path.write_bytes(content)
    assert make(dataset.root, tmp_path / "set", *flags) == 0
    assert len(ShardSet(tmp_path / "set", "train")) == 3


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 40, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    dataset.file("rgba", 7).write_bytes(b"")
    flags = ["--samples-per-shard", "3", "--components", "rgba", "json", "--image-format", "png"]
    assert make(dataset.root, tmp_path / "whole", *flags) == 0
    output, shards_at_kill = tmp_path / "killed", []
    command = [sys.executable, "-m", "tools.shard", "--root", str(dataset.root), "--output", str(output)]
    for wanted in (1, 5, 9):
        process = subprocess.Popen([*command, *flags, "--workers", "2"], cwd=ROOT)
        while process.poll() is None and len(list(output.glob("train/*.tar"))) < wanted:
            time.sleep(0.005)
        time.sleep(random.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        shards_at_kill.append(len(list(output.glob("train/*.tar"))))
        assert not (output / "manifest.json").exists()
        for path in output.glob("train/*.tar"):
            assert path.read_bytes() == (tmp_path / "whole" / "train" / path.name).read_bytes()
    assert 0 < shards_at_kill[0] < shards_at_kill[-1] < 14, "each run went on where the one before stopped"
    times = {path.name: path.stat().st_mtime_ns for path in output.glob("train/*.tar")}
    assert make(dataset.root, output, *flags) == 0
    assert tree(output) == tree(tmp_path / "whole")
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("train/*.tar") if path.name in times}
    assert kept == times, "finished shards are not written again"


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 60, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    command = [sys.executable, "-m", "tools.shard", "--root", str(dataset.root), "--output", str(tmp_path / "set")]
    process = subprocess.Popen(
        [*command, "--samples-per-shard", "15", "--workers", "2", "--components", "rgba"], cwd=ROOT
    )
    while not list(tmp_path.glob("set/train/*.partial")):
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert len(children) >= 2
    assert not [
        pid
        for pid in children
        if Path(f"/proc/{pid}").exists() and "multiproc" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


def test_another_plan_or_a_foreign_folder_is_refused(
    dataset: TinyDataset, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(shards)
    assert make(dataset.root, shards, "--samples-per-shard", "4") == 0
    assert "finished already" in capsys.readouterr().out
    assert make(dataset.root, shards, "--samples-per-shard", "4", "--quality", "90") == 2
    assert "quality 95, not 90" in capsys.readouterr().err
    smaller = make_dataset(tmp_path / "smaller", 1)
    assert make(smaller.root, shards, "--samples-per-shard", "4") == 2
    assert "other frames" in capsys.readouterr().err
    assert tree(shards) == before

    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    assert make(dataset.root, tmp_path / "foreign") == 2
    assert "is not empty" in capsys.readouterr().err


def test_an_unfinished_set_of_another_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(tmp_path / "data", 3, modalities=("rgba", "json"))
    flags = ("--components", "rgba", "--samples-per-shard", "1")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tools.shard.write_whole", stop)
        assert make(dataset.root, tmp_path / "set", *flags) == 130
    assert not (tmp_path / "set" / "manifest.json").exists()
    assert make(dataset.root, tmp_path / "set", *flags, "--image-size", "128") == 2
    assert "unfinished shard set with image_size 368, not 128" in capsys.readouterr().err
    assert make(dataset.root, tmp_path / "set", *flags) == 0
    assert len(ShardSet(tmp_path / "set", "train")) == 3


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(dataset: TinyDataset, tmp_path: Path) -> None:
    # a limit on the size of a file is the disk fault that needs no privileges; tar files here are larger
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from tools import shard; sys.exit(shard.main(sys.argv[1:]))"
    )
    output = tmp_path / "set"
    done = subprocess.run(
        [sys.executable, "-c", script, "--root", str(dataset.root), "--output", str(output), "--workers", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "train-000000.tar cannot be written (File too large)" in done.stderr
    assert "goes on where it stopped" in done.stderr
    assert not list(output.rglob("*.partial"))
    assert not list(output.rglob("*.tar"))
    assert make(dataset.root, output) == 0


def test_an_unreadable_file_stops_the_run_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 2, modalities=("rgba", "json"))
    path = dataset.file("rgba", 1)
    path.unlink()
    path.mkdir()  # reading a folder fails whoever runs the test
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 1
    assert f"{path} cannot be read (Is a directory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--image-size", "16"), "--image-size is 16: give 32 to 4096"),
        (("--quality", "0"), "--quality is 0"),
        (("--image-format", "gif"), "gif"),
        (("--subjects", "nobody"), "no subject nobody"),
    ],
)
def test_bad_options_are_one_line(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert make(dataset.root, tmp_path / "set", *flags) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_cluster_writes_the_same_bytes(
    dataset: TinyDataset, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with distributed.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert make(dataset.root, tmp_path / "set", "--samples-per-shard", "4", "--scheduler", address) == 0
    assert tree(tmp_path / "set") == tree(shards)


def test_a_scheduler_that_does_not_answer_is_one_line(
    dataset: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("tools.parallel._CLUSTER_SECONDS", 1)
    assert make(dataset.root, tmp_path / "set", "--scheduler", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_an_empty_dataset_and_one_without_usable_frames_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert make(tmp_path / "empty", tmp_path / "set") == 2
    assert "holds no frames" in capsys.readouterr().err
    dataset = make_dataset(tmp_path / "data", 1, modalities=("json",))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 2
    message = capsys.readouterr().err
    assert "none of its 2 frames can be used" in message
    assert "2 no rgba file" in message
    assert "--components" in message


def test_folders_that_would_share_keys_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 1, environments=("env 01", "env_01"), modalities=("rgba", "json"))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba") == 2
    assert "share the keys" in capsys.readouterr().err


def test_webdataset_reads_the_shards(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    split = ShardSet(shards, "train")
    urls = [str(shards / "train" / entry.name) for entry in split.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [split.key(index) for index in range(len(split))]
    for index, sample in enumerate(samples):
        for member in split.members:
            assert sample[member] == split.member(index, member).tobytes()


def test_dali_reads_the_shards_through_their_indices(shards: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def

    split = ShardSet(shards, "test")
    tars = [str(shards / "test" / entry.name) for entry in split.shards]
    extensions = list(split.members)

    @pipeline_def(batch_size=len(split), num_threads=1, device_id=None)  # type: ignore[misc, unused-ignore]
    def read() -> Any:
        return tuple(
            fn.readers.webdataset(paths=tars, index_paths=[tar.replace(".tar", ".idx") for tar in tars], ext=extensions)
        )

    pipe = read()
    pipe.build()
    batches = pipe.run()
    for extension, batch in zip(extensions, batches, strict=True):
        for index in range(len(split)):
            assert np.asarray(batch[index]).tobytes() == split.member(index, extension).tobytes()


def test_the_index_is_what_wds2idx_writes(shards: Path, tmp_path: Path) -> None:
    wds2idx = pytest.importorskip("wds2idx")
    for entry in Manifest.read(shards).splits["train"].shards:
        tar = shards / "train" / entry.name
        with wds2idx.IndexCreator(str(tar), str(tmp_path / "idx"), verbose=False) as creator:
            creator.create_index()
        assert (tmp_path / "idx").read_text() == tar.with_suffix(".idx").read_text()
        names, places = read_index(tar.with_suffix(".idx"), entry)
        assert len(names) == 5
        assert places.shape == (entry.samples, 5, 2)


def test_help_gives_every_number_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        shard.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for words in ("--image-size", "(pixels)", "--samples-per-shard", "(samples)", "(cores)"):
        assert words in said


def test_the_tools_start_without_the_training_stack() -> None:
    names = "tools.shard, tools.shard_writer"
    script = f"import sys, {names}; print([m for m in ('torch', 'nvidia.dali', 'distributed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
