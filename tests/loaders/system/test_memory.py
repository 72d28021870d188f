"""Memory is copied and read ahead in one call for many pieces."""

import ctypes
import mmap
import os

import numpy as np
import pytest

from loaders.system.memory import gather, gather_past_cache, read_ahead
from loaders.system.open_files import map_file


@pytest.mark.parametrize("function", [gather, gather_past_cache])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200, 4096, 406_272])
def test_each_row_is_a_copy_and_nothing_else_is_written(function, size):
    """Wherever pieces and rows begin within a line of the cache."""
    draw = np.random.default_rng(size)
    memory = draw.integers(0, 256, 2**20, np.uint8)
    for offset in (0, 1, 63, 64):
        begins = draw.integers(0, len(memory) - size, 5)
        written = np.full(offset + 5 * size + 9, 7, np.uint8)
        rows = written[offset : offset + 5 * size].reshape(5, size)
        function(begins + memory.ctypes.data, rows)
        np.testing.assert_array_equal(rows, np.stack([memory[begin : begin + size] for begin in begins]))
        assert (written[:offset] == 7).all()
        assert (written[-9:] == 7).all()


def test_no_pieces_are_no_error():
    for function in (gather, gather_past_cache):
        function(np.empty(0, np.int64), np.empty((0, 8), np.uint8))
    read_ahead(np.empty((0, 2), np.int64))


def resident(data):
    """Return which pages of a mapped file are in memory."""
    address = data.__array_interface__["data"][0]
    pages = (ctypes.c_ubyte * -(-len(data) // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(data)), pages) == 0
    return np.frombuffer(pages, np.uint8) & 1


def test_what_is_read_ahead_is_in_memory(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(bytes(2**24))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    data = map_file(path)
    if resident(data).any():
        pytest.skip("this file system keeps its files in memory")
    begins = [5, 2**22 + 4000, 2**23 + 123]
    address = data.__array_interface__["data"][0]
    read_ahead(np.array([(address + begin, 9000) for begin in begins]))
    found = resident(data)
    assert all(found[begin // mmap.PAGESIZE] and found[begin // mmap.PAGESIZE + 1] for begin in begins)
    assert not found[2**23 + 2**22 >> 12 :].any()
