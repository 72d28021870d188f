"""What ``tools.shard --dry-run`` announces is what the run then does, and it leaves everything as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loaders.format.manifest import Manifest
from loaders.system.locks import locked
from tests.dry_runs import bytes_of, read_only, rows, snapshot
from tests.tools.shard_runs import make
from tests.tools.tiny_dataset import TinyDataset, make_dataset
from tools import parallel

pytestmark = pytest.mark.slow

FLAGS = ("--components", "rgba", "json", "--image-size", "128", "--samples-per-shard", "4")


@pytest.fixture
def data(tmp_path: Path) -> TinyDataset:
    """Give 20 frames, of which two cannot be used."""
    dataset = make_dataset(tmp_path / "data", 10, modalities=("rgba", "json"))
    dataset.file("json", 3).write_bytes(b"")
    dataset.file("rgba", 5).unlink()
    return dataset


def test_what_is_announced_is_done(data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, before = tmp_path / "set", snapshot(tmp_path)
    assert make(data.root, output, *FLAGS, "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert snapshot(tmp_path) == before
    assert make(data.root, output, *FLAGS) == 0
    splits = Manifest.read(output).splits
    assert {name: said[name] for name in splits} == {
        name: f"{split.samples} samples in {len(split.shards)} shards" for name, split in splits.items()
    }
    assert said["to skip"] == "2 frames: 1 json file is empty, 1 no rgba file"
    assert f": {said['to skip']}" in capsys.readouterr().out
    assert said["to write"] == f"{sum(split.samples for split in splits.values())} samples in 5 shards"
    size = sum(shard.bytes for split in splits.values() for shard in split.shards)
    assert bytes_of(said["space"]) == pytest.approx(size, rel=0.2)
    before = snapshot(tmp_path)
    assert make(data.root, output, *FLAGS, "--dry-run") == 0
    assert capsys.readouterr().out == f"{output} is finished already; `python -m tools.verify` checks it\n"
    assert snapshot(tmp_path) == before


def test_shards_of_a_run_that_was_stopped_are_counted(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.file("rgba", 7).write_bytes(data.file("rgba", 7).read_bytes()[:-100])
    assert make(data.root, tmp_path / "set", *FLAGS, "--on-defect", "fail") == 2
    data.file("json", 3).unlink()
    data.file("rgba", 3).unlink()
    data.file("json", 5).unlink()
    assert make(data.root, tmp_path / "set", *FLAGS, "--on-defect", "fail") == 2  # at the one that is cut short
    there = {path.name for path in (tmp_path / "set").rglob("*.tar")}
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert make(data.root, tmp_path / "set", *FLAGS, "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert snapshot(tmp_path) == before
    for split in ("train", "test"):
        done = len([name for name in there if name.startswith(split)])
        assert (f"{done} of them finished already" in said[split]) == bool(done)
    modified = {name: (tmp_path / "set" / name.split("-")[0] / name).stat().st_mtime_ns for name in there}
    assert make(data.root, tmp_path / "set", *FLAGS) == 0
    assert capsys.readouterr().out.startswith(said["to write"].split(" in ")[0])
    assert int(said["to write"].split()[-2]) == len(list((tmp_path / "set").rglob("*.tar"))) - len(there)
    assert modified == {name: (tmp_path / "set" / name.split("-")[0] / name).stat().st_mtime_ns for name in there}


def test_where_nothing_can_be_written_it_still_tells(
    data: TinyDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with read_only(tmp_path / "protected") as folder:
        assert make(data.root, folder / "set", *FLAGS, "--dry-run") == 0
    said = rows(capsys.readouterr().out)
    assert said["to write"] == "18 samples in 5 shards"
    assert said["warning"].startswith(f"{folder} does not let you write")


def test_what_the_run_refuses_is_refused_alike(
    data: TinyDataset,
    tmp_path: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(parallel, "_CLUSTER_SECONDS", 1)
    (tmp_path / "file").touch()
    other = tmp_path / "other"
    assert make(data.root, other, *FLAGS) == 0
    for root, output, flags, status in (
        (tmp_path / "nowhere", "set", FLAGS, 2),
        (data.root, "file", FLAGS, 2),
        (data.root, "data", FLAGS, 2),
        (data.root, "other", (*FLAGS, "--seed", "3"), 2),
        (data.root, "set", (*FLAGS, "--on-defect", "fail"), 2),
        (data.root, "set", ("--subjects", "nobody"), 2),
        (data.root, f"{small_disk}/set", ("--components", "rgba", "--image-format", "raw", "--image-size", "368"), 1),
        (data.root, "set", (*FLAGS, "--scheduler", "tcp://127.0.0.1:9"), 2),
    ):
        capsys.readouterr()
        told = []
        for more in (("--dry-run",), ()):
            status_told = make(root, tmp_path / output, *flags, *more)
            # the folder that the real run makes takes some bytes of the small disk
            told.append((status_told, re.sub(r"has \S+ MB free", "", capsys.readouterr().err)))
        assert told[0] == told[1]
        assert told[0][0] == status, told
    with locked(tmp_path / "set"):
        assert make(data.root, tmp_path / "set", *FLAGS, "--dry-run") == 2
    assert "another run is writing" in capsys.readouterr().err
