from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from loaders.system.os_errors import format_bytes
from tests.dry_runs import bytes_of
from tests.tools.shard_runs import ROOT, command, make, tree
from tests.tools.tiny_dataset import make_dataset


@pytest.mark.slow
def test_the_estimate_comes_before_and_is_about_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 30, modalities=("rgba", "json"))
    assert make(dataset.root, tmp_path / "set", "--components", "rgba", "json", "--image-size", "128") == 0
    lines = capsys.readouterr().out.splitlines()
    said = re.fullmatch(r"60 samples to write: about (\S+ \S+) \((\S+ \S+) free\), about [\d:]+ on 1 cores", lines[0])
    assert said, lines
    written = sum(path.stat().st_size for path in tmp_path.glob("set/*/*.tar"))
    assert bytes_of(said[1]) == pytest.approx(written, rel=0.2)
    assert bytes_of(said[2]) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_only_what_remains_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "data", 9, modalities=("rgba", "json"))
    flags = ["--components", "rgba", "--samples-per-shard", "3"]
    dataset.file("rgba", 5).write_bytes(b"")
    assert make(dataset.root, tmp_path / "set", *flags, "--on-defect", "fail") == 2
    capsys.readouterr()
    assert make(dataset.root, tmp_path / "set", *flags) == 0
    samples = int(capsys.readouterr().out.split(" samples to write")[0])
    assert 3 <= samples <= 18 and samples % 3 == 0


def test_sizes_format_bytes() -> None:
    assert format_bytes(0) == "0.00 B"
    assert format_bytes(999) == "999 B"
    assert format_bytes(15_234_000_000) == "15.2 GB"


@pytest.mark.slow
def test_what_cannot_fit_is_refused_before_it_starts(small_disk: Path) -> None:
    dataset = make_dataset(small_disk.parent / "data", 40, modalities=("rgba", "json"))
    output = small_disk / "set"
    done = subprocess.run(
        command(dataset.root, output, "--components", "rgba", "--image-format", "raw"),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    needed = re.search(rf"error: {output} needs about (\S+ \S+), its disk has (\S+ \S+) free", line)
    assert needed and "--image-size" in line, line
    assert bytes_of(needed[1]) == pytest.approx(80 * 368 * 368 * 3, rel=0.02)
    assert not list(output.rglob("*.tar"))


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_that_says_what_is_needed(small_disk: Path) -> None:
    dataset = make_dataset(small_disk.parent / "data", 20, modalities=("rgba", "json"))
    flags = ("--components", "rgba", "--image-format", "raw", "--image-size", "128", "--samples-per-shard", "10")
    output, filler = small_disk / "set", small_disk / "filler"
    run = command(dataset.root, output, *flags)
    process = subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and "40 samples to write" in process.stdout.readline()
    filler.write_bytes(bytes(2_200_000))  # leaves room for one shard of four
    stderr = process.communicate()[1]
    assert process.returncode == 1
    line = stderr.strip().splitlines()[-1]
    said = re.search(r"No space left on device\): the (\d+) samples to come take about (\S+ \S+): make room, run", line)
    assert said, stderr
    assert 0 < int(said[1]) <= 40
    assert bytes_of(said[2]) == pytest.approx(int(said[1]) * (128 * 128 * 3 + 2500), rel=0.1)
    assert not list(output.rglob("*.partial"))
    filler.unlink()
    assert subprocess.run(run, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert make(dataset.root, small_disk.parent / "whole", *flags) == 0
    assert tree(output) == tree(small_disk.parent / "whole")
