import os
import threading
import time

import pytest
import torch

from engine.checkpoint import format as checkpoint
from engine.checkpoint import torch_file
from engine.checkpoint.checkpointer import CheckpointConfig, Checkpointer, HostCopy, load_newest
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
    with pytest.raises(InputError, match=r"--load .*best\.pt"):
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


def test_a_best_one_that_waits_is_written_with_the_next(tmp_path):
    writer = Checkpointer(tmp_path, CheckpointConfig())
    writer.write(state(0))
    for step in (1, 2):
        writer.hold_best(state(step))
    writer.wait()
    assert not (tmp_path / "best.pt").exists()
    writer.write(state(3))
    writer.hold_best(state(4))  # while those are written
    writer.wait()
    assert checkpoint.load(tmp_path / "best.pt").step == 2
    writer.write(state(5), best=True)
    writer.wait()
    assert checkpoint.load(tmp_path / "best.pt").step == 5
    writer.hold_best(state(6))
    writer.close()  # of a run that fails
    for name, step in (("best.pt", 6), ("last.pt", 5)):
        assert torch.equal(checkpoint.load(tmp_path / name).weights["net"]["w"], torch.full((1000,), float(step)))


def test_memory_is_used_again_and_never_while_it_is_written(tmp_path, monkeypatch):
    write_file, places = torch_file.write, []

    def write_late(path, content):
        time.sleep(0.1)
        places.append(content["weights"]["net"]["w"].data_ptr())
        write_file(path, content)

    monkeypatch.setattr(torch_file, "write", write_late)
    writer = Checkpointer(tmp_path, CheckpointConfig(keep=9))
    for step in range(4):
        writer.write(state(step))
    writer.close()
    assert len(set(places)) == 1
    for age in range(4):
        saved = checkpoint.load(tmp_path / (f"last-{age}.pt" if age else "last.pt"))
        assert (saved.weights["net"]["w"] == saved.step).all()
        assert saved.step == 3 - age


def test_what_changes_its_shape_has_new_memory():
    memory = HostCopy()
    first = memory.of({"a": [torch.ones(2)], "b": torch.ones(3)})
    second = memory.of({"a": [torch.zeros(4), torch.zeros(1)], "b": torch.zeros(3, dtype=torch.int64)})
    assert [len(tensor) for tensor in second["a"]] == [4, 1]
    assert second["b"].dtype == torch.int64
    assert first["a"][0].sum() == 2


def test_one_is_due_by_time_or_steps_and_never_while_one_is_written(tmp_path, monkeypatch):
    now, go_on, write_file = [0.0], threading.Event(), torch_file.write
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch_file, "write", lambda *given: go_on.wait(60) and write_file(*given))
    writer = Checkpointer(tmp_path, CheckpointConfig(minutes=10, every=100))
    writer.write(state(0))
    now[0] = 601.0
    assert not writer.due(100, validated=True)
    go_on.set()
    writer.wait()
    assert writer.due(1)
    writer.write(state(1))
    writer.wait()
    for seconds, at_a_step, at_a_validation in ((59, False, False), (61, False, True), (599, False, True)):
        now[0] = 601.0 + seconds
        assert writer.due(2) == at_a_step
        assert writer.due(2, validated=True) == at_a_validation
    assert not writer.due(100)
    assert writer.due(101)
    assert not Checkpointer(tmp_path, CheckpointConfig(minutes=1e-9), on=False).due(1)
    writer.close()


def test_a_failed_write_is_told_at_the_next(tmp_path):
    writer = Checkpointer(tmp_path / "absent", CheckpointConfig())
    writer.write(state(1))
    with pytest.raises(FileNotFoundError, match=r"absent/last\.pt"):
        writer.write(state(2))
    writer.close()
