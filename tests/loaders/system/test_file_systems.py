"""File systems that have no locks, or cannot wait for the disk: the work goes on, other errors stay errors."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from loaders import errors
from loaders.system.files import publish, write_whole
from loaders.system.locks import held, locked


@pytest.fixture
def warnings(monkeypatch, caplog):
    """Return a function that gives the warnings of a process that has given none yet."""
    monkeypatch.setattr(errors, "_WARNED", set())
    return lambda: caplog.messages


def failing(monkeypatch, module, name, number, applies=lambda argument: True):
    """Make a function of the system fail where ``applies`` says so of its first argument."""
    works = getattr(module, name)

    def fails(argument, *others):
        if applies(argument):
            raise OSError(number, os.strerror(number))
        return works(argument, *others)

    monkeypatch.setattr(module, name, fails)


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_without_locks_a_run_goes_on_with_one_warning(tmp_path, monkeypatch, warnings, number):
    failing(monkeypatch, fcntl, "flock", number)
    with locked(tmp_path / "output"), held(tmp_path, fcntl.LOCK_SH):
        pass
    (warning,) = warnings()
    assert f"the file system of {tmp_path / 'output'} has no locks ({os.strerror(number)})" in warning
    assert "no two runs" in warning


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADF, errno.EACCES])
def test_other_errors_of_a_lock_name_the_folder(tmp_path, monkeypatch, warnings, number):
    failing(monkeypatch, fcntl, "flock", number)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path}'") as raised, locked(tmp_path):
        pytest.fail("nothing is done without the lock")
    assert raised.value.errno == number
    assert not warnings()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("applies", [is_folder, lambda descriptor: True], ids=["folders", "all"])
def test_what_cannot_be_synced_appears_all_the_same(tmp_path, monkeypatch, number, applies):
    failing(monkeypatch, os, "fsync", number, applies)
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADF, errno.ENOSPC])
@pytest.mark.parametrize("applies", [is_folder, lambda descriptor: not is_folder(descriptor)], ids=["folder", "file"])
def test_bytes_that_did_not_reach_the_disk_are_an_error(tmp_path, monkeypatch, number, applies):
    failing(monkeypatch, os, "fsync", number, applies)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path}") as raised:
        write_whole(tmp_path / "file", b"content")
    assert raised.value.errno == number


@pytest.mark.parametrize(
    ("number", "goes_on"),
    [(errno.EACCES, True), (errno.EISDIR, True), (errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)],
)
def test_a_folder_that_cannot_be_opened_is_not_synced(tmp_path, monkeypatch, number, goes_on):
    (tmp_path / "written").touch()
    failing(monkeypatch, os, "open", number, os.path.isdir)
    if goes_on:
        publish(tmp_path / "written", tmp_path / "file")
        assert (tmp_path / "file").is_file()
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            publish(tmp_path / "written", tmp_path / "file")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path, monkeypatch):
    failing(monkeypatch, os, "open", errno.EACCES, os.path.isfile)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "file", b"content")


def test_a_real_file_system_that_syncs_nothing():
    """The kernel's own files: fsync answers EINVAL."""
    place = Path("/proc/self/status")
    with place.open() as file, pytest.raises(OSError, match="Invalid argument"):
        os.fsync(file.fileno())
    from loaders.system.files import _sync

    _sync(place)
    _sync(place.parent)
