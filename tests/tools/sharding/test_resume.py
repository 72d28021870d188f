from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import ROOT, make, tree
from tests.tools.tiny_dataset import TinyDataset, make_dataset


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


@pytest.mark.slow
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
