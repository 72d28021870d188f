"""A folder's disk: rates, room and locks, on disks that are full, read-only or without locks."""

import errno
import fcntl
import os
import re
import subprocess
import time

import pytest

from tools.machine import storage
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow


def test_rates_are_measured_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LEAST_RATE", 0)
    finding = storage.rate(str(tmp_path))
    assert finding.status == "ok"
    assert re.fullmatch(r"writes [\d.]+ [kMGT]?B/s, reads [\d.]+ [kMGT]?B/s", finding.found)
    assert not list(tmp_path.iterdir())


def test_what_is_read_comes_from_the_disk(tmp_path, monkeypatch):
    """The page cache has been told to forget the file before the first byte is read."""
    told = []
    forget, read = os.posix_fadvise, os.pread
    monkeypatch.setattr(os, "posix_fadvise", lambda *how: told.append("forget") or forget(*how))
    monkeypatch.setattr(os, "pread", lambda *how: told.append("read") or read(*how))
    storage.rate(str(tmp_path))
    assert told[:2] == ["forget", "read"]
    assert told.count("read") == 17  # the last one finds the end


def test_a_disk_slower_than_two_cores_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LEAST_RATE", 10**15)
    finding = storage.rate(str(tmp_path))
    assert finding.status == "warning"
    assert "--data.access sequential" in finding.remedy


def test_a_slow_disk_gets_a_shorter_file(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_SECONDS", 0.01)
    sizes = []

    def slow(file):
        time.sleep(0.02)
        sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    storage.rate(str(tmp_path))
    assert sizes == [16 * 2**20]


def test_a_full_disk_is_missing(small_disk):
    finding = storage.rate(str(small_disk))
    assert finding.status == "missing"
    assert finding.found == f"{small_disk}: No space left on device: make room on its disk, then run again"
    assert not list(small_disk.iterdir())
    room = storage.room(str(small_disk))
    assert (room.status, room.found) == ("warning", "3.15 MB of 3.15 MB free")


def test_a_folder_that_cannot_be_written_is_missing(small_disk):
    assert storage.rate("/proc/self").status == "missing"
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    finding = storage.rate(str(small_disk))
    assert finding.status == "missing"
    assert "Read-only file system: give a path that is not mounted read-only" in finding.found


def test_room(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LEAST_ROOM", 0)
    assert storage.room(str(tmp_path)).status == "ok"


def test_locks(tmp_path):
    assert storage.locks(str(tmp_path)) == Finding("ok", "a file is locked for everybody else")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", [OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)), None], ids=["refused", "ignored"])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, answer):
    def flock(file, kind):
        if answer is not None:
            raise answer

    monkeypatch.setattr(fcntl, "flock", flock)
    finding = storage.locks(str(tmp_path))
    assert finding.status == "warning"
    assert "-o flock" in finding.remedy
