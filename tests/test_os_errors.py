"""Errors of the operating system: each command says in one line which path, what is wrong, and the remedy."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import format as checkpoint
from engine.cli.command import BAD_INPUT, CHECK_FAILED, OK, Command, command
from engine.evaluate import main as evaluate
from engine.infer import main as infer
from engine.tracking.opening import LogConfig
from engine.train import main as train
from engine.training.metrics_log import RunLog
from loaders.system.os_errors import in_words, naming
from tests.checkpoint_factory import checkpoint_of, make_checkpoint
from tests.shard_factory import make_shard_set
from tools.arrange import main as arrange
from tools.convert_checkpoint import main as convert
from tools.export import main as export
from tools.shard import main as shard
from tools.synthesize import main as synthesize
from tools.validate import main as validate

pytestmark = pytest.mark.slow

ROOM = 128 * 1024
"""Of the disk that fills up (bytes)."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a dataset, its shards, a checkpoint and images."""
    root = tmp_path_factory.mktemp("world")
    sizes = ["--frames-per-subject", "2", "--train-subjects", "1", "--val-subjects", "1", "--test-subjects", "1"]
    made = ["--modalities", "rgba", "json", "--workers", "1"]
    assert synthesize(["--output", str(root / "dataset"), *sizes, *made]) == 0
    make_shard_set(root / "shards", {"train": 8, "val": 4, "test": 4}, image_size=64)
    make_checkpoint(root / "best.pt")
    (root / "images").mkdir()
    shutil.copy(next((root / "dataset").glob("TrainSet/*/*/*/rgba/*")), root / "images")
    return root


def synthesize_into(world: Path, output: Path) -> int:
    flags = ["--val-subjects", "0", "--test-subjects", "0", "--workers", "1", "--modalities", "rgba"]
    return synthesize(["--output", str(output), "--frames-per-subject", "2", "--train-subjects", "1", *flags])


def validate_into(world: Path, output: Path) -> int:
    output.parent.mkdir(parents=True, exist_ok=True)
    return validate(["--dataset", str(world / "dataset"), "--report", str(output), "--workers", "1"])


def arrange_into(world: Path, output: Path) -> int:
    return arrange(["--input", str(world / "dataset" / "TrainSet"), "--output", str(output), "--mode", "copy"])


def shard_into(world: Path, output: Path) -> int:
    return shard(["--root", str(world / "dataset"), "--output", str(output), "--components", "json", "--workers", "1"])


def convert_into(world: Path, output: Path) -> int:
    return convert(["--input", str(world / "best.pt"), "--output", str(output / "theirs.pth")])


def export_into(world: Path, output: Path) -> int:
    return export(["--checkpoint", str(world / "best.pt"), "--output", str(output / "model.pt2")])


def evaluate_into(world: Path, output: Path) -> int:
    flags = ["--data.shards", str(world / "shards"), "--output", str(output), "--device", "cpu", "--precision", "fp32"]
    return evaluate(["--checkpoint", str(world / "best.pt"), *flags])


def infer_into(world: Path, output: Path) -> int:
    flags = ["--input", str(world / "images"), "--output", str(output), "--device", "cpu", "--precision", "fp32"]
    return infer(["--checkpoint", str(world / "best.pt"), *flags])


def train_into(world: Path, output: Path) -> int:
    flags = ["--stage", "train3d", "--data.shards", str(world / "shards"), "--run-dir", str(output)]
    flags += ["--data.batch-size", "4", "--data.threads", "1", "--max-steps", "1", "--precision", "fp32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *flags])
        return train()


Writer = Callable[[Path, Path], int]
WRITERS: tuple[Writer, ...] = (
    synthesize_into,
    validate_into,
    arrange_into,
    shard_into,
    convert_into,
    export_into,
    evaluate_into,
    infer_into,
    train_into,
)


def mount(folder: Path, *how: str) -> None:
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *how, folder], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk without room for anything but names."""
    mount(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={ROOM}", "none")
    with (tmp_path / "disk" / "filler").open("wb") as file:
        file.write(bytes(ROOM))
    yield tmp_path / "disk" / "out"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    mount(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "none")
    yield tmp_path / "disk" / "out"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    said = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert len(said) == 1
    assert "Errno" not in said[0]
    return said[0]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_named_with_the_remedy(
    world: Path, full_disk: Path, capsys: pytest.CaptureFixture[str], write: Writer
) -> None:
    assert write(world, full_disk) == CHECK_FAILED
    line = line_of(capsys)
    assert str(full_disk.parent) in line
    assert "No space left on device" in line
    assert "make room" in line


@pytest.mark.parametrize("write", [w for w in WRITERS if w is not validate_into])
def test_a_read_only_disk_is_named_with_the_remedy(
    world: Path, read_only: Path, capsys: pytest.CaptureFixture[str], write: Writer
) -> None:
    assert write(world, read_only) in (BAD_INPUT, CHECK_FAILED)
    line = line_of(capsys)
    assert str(read_only) in line
    assert "Read-only file system: give a path that is not mounted read-only" in line


@pytest.mark.parametrize("write", [w for w in WRITERS if w is not validate_into])
@pytest.mark.parametrize("name", ["file", "file/below", "n" * 300])
def test_a_path_that_cannot_be_is_named_with_the_remedy(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Writer, name: str
) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    assert write(world, tmp_path / name) in (BAD_INPUT, CHECK_FAILED)
    line = line_of(capsys)
    assert str(tmp_path / name) in line
    assert "give " in line


@pytest.fixture
def alone() -> list[str]:
    """What runs a command without root's right to everybody's files."""
    capabilities = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no privileges to give up")
    return command


def give_away(folder: Path) -> None:
    folder.chmod(0o700)
    os.chown(folder, 12345, 12345)


def test_somebody_elses_folder_is_named_with_the_remedy(world: Path, tmp_path: Path, alone: list[str]) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    give_away(theirs)
    report = theirs / "report.json"
    flags = ["--root", str(world / "dataset"), "--report", str(report), "--workers", "1"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tools.validate", *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.startswith(f"tools.validate: error: {report}: Permission denied: see `ls -ld`")


@pytest.mark.parametrize("place", ["", "env_001", "env_001/cam_down/json"])
def test_frames_that_may_not_be_read_are_not_passed_over(
    world: Path, tmp_path: Path, alone: list[str], place: str
) -> None:
    dataset = shutil.copytree(world / "dataset", tmp_path / "dataset", symlinks=True)
    theirs = next((dataset / "TrainSet").iterdir()) / place
    give_away(theirs)
    flags = ["--root", str(dataset), "--workers", "1"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tools.validate", *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.startswith(f"tools.validate: error: {theirs}"), done
    assert "Permission denied" in done.stderr


def test_torch_tells_why_a_checkpoint_cannot_be_written(full_disk: Path) -> None:
    for numbers in (10, 1_000_000):
        with pytest.raises(OSError, match="No space left on device"):
            checkpoint.save(full_disk.with_name("some.pt"), checkpoint_of({"numbers": list(range(numbers))}))
    assert [path.name for path in full_disk.parent.iterdir()] == ["filler"]


def test_a_disk_that_fills_up_in_training_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", f"size={ROOM}", "none")

    def log_until_full(flags: Command) -> int:
        log = RunLog(disk, LogConfig(), {}, on=True, position=0, step=0, total_steps=100)
        try:
            (disk / "filler").write_bytes(bytes(ROOM // 2))
            image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            for step in range(100):
                log.image(step, "example", image)
                log.scalars(step, {"loss": 1.0})
        finally:
            log.close()
        return OK

    try:
        assert command("test", "A test.")(log_until_full)([]) == CHECK_FAILED
    finally:
        subprocess.run(["umount", disk], check=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"test: error: {disk}: No space left on device: make room on its disk, then run again"
    assert all("No space left" in line for line in lines)


def test_every_error_names_its_path_and_what_is_wrong() -> None:
    for number in errno.errorcode:
        error = OSError(number, os.strerror(number), "/some/path")
        assert in_words(error).startswith(f"/some/path: {os.strerror(number)}")


def test_an_error_that_names_nothing_gets_the_nearest_path(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    with pytest.raises(OSError) as found, naming(outer), naming(inner):
        raise OSError(errno.ENOSPC, "No space left on device")
    for error in (found.value, pickle.loads(pickle.dumps(found.value))):  # as it comes from a worker
        assert in_words(error).startswith(f"{inner}: No space left on device: make room")
    with pytest.raises(FileNotFoundError, match="there"), naming(outer):
        (tmp_path / "there").stat()


def test_both_names_of_a_move_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as found:
        (tmp_path / "a").rename(tmp_path / "b")
    assert in_words(found.value).startswith(f"{tmp_path / 'a'} -> {tmp_path / 'b'}: No such file or directory")
