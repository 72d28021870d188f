import os
import time

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.checkpoint import torch_file
from engine.checkpoint.checkpointer import CheckpointConfig, Checkpointer, load_newest
from loaders import InputError
from tests.checkpoint_factory import checkpoint_of


def state(step):
    return checkpoint_of(step=step, weights={"net": {"w": torch.full((1000,), float(step))}})


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write(folder, steps, *, keep=2, best=()):
    writer = Checkpointer(folder, CheckpointConfig(keep=keep))
    for step in steps:
        writer.write(state(step), best=step in best)
    writer.close()


def test_the_newest_are_kept_and_the_best(tmp_path):
    write(tmp_path, range(5), keep=3, best={1})
    found = {path.name: checkpoint.load(path).step for path in tmp_path.iterdir()}
    assert found == {"last.pt": 4, "last-1.pt": 3, "last-2.pt": 2, "best.pt": 1}


def test_a_step_that_is_written_again_pushes_nothing_out(tmp_path):
    write(tmp_path, [1, 2, 2], best={2})
    found = {path.name: checkpoint.load(path).step for path in tmp_path.iterdir()}
    assert found == {"last.pt": 2, "last-1.pt": 1, "best.pt": 2}


def test_fewer_are_kept_from_now_on(tmp_path):
    write(tmp_path, range(5), keep=4)
    write(tmp_path, [5], keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "last-1.pt"}


def test_a_copy_is_written_whatever_becomes_of_the_original(tmp_path, monkeypatch):
    slow = torch_file.write

    def write_late(path, content):
        time.sleep(0.2)
        slow(path, content)

    monkeypatch.setattr(torch_file, "write", write_late)
    writer = Checkpointer(tmp_path, CheckpointConfig())
    current = state(1)
    before = time.perf_counter()
    writer.write(current)
    assert time.perf_counter() - before < 0.2  # what is waited for is the copy
    current.weights["net"]["w"].zero_()
    writer.close()
    assert torch.equal(checkpoint.load(tmp_path / "last.pt").weights["net"]["w"], torch.ones(1000))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path, damage):
    write(tmp_path, range(3))
    last = tmp_path / "last.pt"
    if damage == "cut":
        os.truncate(last, last.stat().st_size // 2)
    elif damage == "flipped":
        flip_a_byte(last)
    else:  # killed between two renames
        last.unlink()
    found, faults = load_newest(tmp_path)
    assert found.step == 1
    assert len(faults) == (damage != "gone")
    assert all("last.pt" in fault for fault in faults)


def test_older_ones_are_ordered_by_step_whatever_a_copy_made_of_names_and_times(tmp_path):
    write(tmp_path, range(1, 5), keep=4)
    flip_a_byte(tmp_path / "last.pt")
    for age, path in enumerate(["last-3.pt", "last-2.pt", "last-1.pt"]):
        os.utime(tmp_path / path, (1000 - age, 1000 - age))
    assert load_newest(tmp_path)[0].step == 3
    (tmp_path / "last-1.pt").rename(tmp_path / "last-7.pt")
    found, faults = load_newest(tmp_path)
    assert (found.step, len(faults)) == (3, 1)


def test_where_all_are_damaged_the_best_one_is_named(tmp_path):
    write(tmp_path, [1], best={1})
    (tmp_path / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"--load-2d or --load-3d .*best\.pt"):
        load_newest(tmp_path)


def test_nothing_whole_and_foreign_files_are_refused(tmp_path):
    assert load_newest(tmp_path) == (None, [])
    write(tmp_path, range(2))
    for path in tmp_path.iterdir():
        flip_a_byte(path)
    with pytest.raises(InputError, match="damaged"):
        load_newest(tmp_path)
    torch.save({"format": checkpoint.FORMAT, "version": 1}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="version 1"):
        load_newest(tmp_path)


def test_a_failed_write_is_told_at_the_next(tmp_path):
    writer = Checkpointer(tmp_path / "absent", CheckpointConfig())
    writer.write(state(1))
    with pytest.raises(FileNotFoundError, match=r"absent/last\.pt"):
        writer.write(state(2))
    writer.close()
