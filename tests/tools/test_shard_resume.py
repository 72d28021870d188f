from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loaders.shard_set import ShardSet
from tests.tools.shard_runs import ROOT, command, make, tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 40, subjects=[("train", "female_001_a_a")], modalities=("rgba", "json"))
    dataset.file("rgba", 7).write_bytes(b"")
    flags = ["--samples-per-shard", "3", "--components", "rgba", "json", "--image-format", "png"]
    assert make(dataset.root, tmp_path / "whole", *flags) == 0
    output, shards_at_kill = tmp_path / "killed", []
    for wanted in (1, 5, 9):
        process = subprocess.Popen(command(dataset.root, output, *flags, "--workers", "2"), cwd=ROOT)
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
    flags = ("--samples-per-shard", "15", "--workers", "2", "--components", "rgba")
    process = subprocess.Popen(command(dataset.root, tmp_path / "set", *flags), cwd=ROOT)
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
