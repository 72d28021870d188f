"""Many pieces of memory at once: one call each, during which other threads have Python's lock."""

# mypy: allow-untyped-calls

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numpy.typing import NDArray

from loaders.system.compiled import compiled, inlined

Addresses = NDArray[np.int64]
"""(n,) where pieces of memory begin."""

LINE: Final = 64
"""What moves between a cache and the memory at once, and as much as one store of the widest kind (bytes)."""

_BYTE: Final = ir.IntType(8)
_WORD: Final = ir.IntType(64)
_LINE: Final = ir.VectorType(_BYTE, LINE)

_intrinsic: Callable[[Any], Any] = extending.intrinsic


@_intrinsic
def _copy(_: Any, source: Any, target: Any, size: Any) -> Any:
    """Copy memory as the C library does it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, size = args
        pointer = _BYTE.as_pointer()
        cgutils.raw_memcpy(
            builder, builder.inttoptr(target, pointer), builder.inttoptr(source, pointer), size, _WORD(1)
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@_intrinsic
def _store_line(_: Any, source: Any, target: Any) -> Any:
    """Copy a line to a multiple of its length, past the cache."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (builder.inttoptr(address, _LINE.as_pointer()) for address in args)
        store = builder.store(builder.load(source, align=1), target, align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_intrinsic
def _read(_: Any, address: Any) -> Any:
    """Return a byte."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _BYTE.as_pointer()))

    return types.uint8(types.int64), generate


@_intrinsic
def _advise(_: Any, address: Any, size: Any, advice: Any) -> Any:
    """Call ``madvise``. Pointers of ctypes would do that, too, but are not kept when compiled code is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [_WORD, _WORD, ir.IntType(32)])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "madvise"), args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int32), generate


@_intrinsic
def settle(_: Any) -> Any:
    """Wait until what `copy_past_cache` stored is seen by other threads; to be called by compiled code."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@inlined
def copy_past_cache(source: Any, target: Any, size: Any) -> None:
    """Copy memory that is not looked at soon, without reading what was there into the cache first.

    To be called by compiled code, which calls `settle` when it is done.

    Args:
        source: where it begins.
        target: where it goes.
        size: how much (bytes).
    """
    head = min(size, -target % LINE)
    _copy(source, target, head)
    end = size - (size - head) % LINE
    for done in range(head, end, LINE):
        _store_line(source + done, target + done)
    _copy(source + end, target + end, size - end)


@compiled
def gather(sources: Any, rows: Any) -> None:
    """Copy pieces of memory, as long as a row each, into contiguous rows.

    Args:
        sources: (n,) `Addresses`.
        rows: (n, ...).
    """
    target, size = rows.ctypes.data, rows.size // max(1, len(rows)) * rows.itemsize
    for row in range(len(sources)):
        _copy(sources[row], target + row * size, size)


@compiled
def gather_past_cache(sources: Any, rows: Any) -> None:
    """Do the same as `gather`, a quarter faster where rows are large and not looked at soon."""
    target, size = rows.ctypes.data, rows.size // max(1, len(rows)) * rows.itemsize
    for row in range(len(sources)):
        copy_past_cache(sources[row], target + row * size, size)
    settle()


_PAGE: Final = mmap.PAGESIZE
_WILL_NEED: Final = mmap.MADV_WILLNEED


@compiled
def read_ahead(spans: Any) -> Any:
    """Have parts of mapped files read from the disk, all of them at once, and return when the first page of each is in.

    Other threads run meanwhile, which they do not while Python looks at a page that has to be read.

    Args:
        spans: (n, 2) address and size (bytes) of each part.

    Returns:
        A number without a meaning: what is looked at has to be of use.
    """
    for part in range(len(spans)):
        before = spans[part, 0] % _PAGE
        _advise(spans[part, 0] - before, before + spans[part, 1], _WILL_NEED)
    seen = 0
    for part in range(len(spans)):
        if spans[part, 1] > 0:
            seen += _read(spans[part, 0]) + _read(spans[part, 0] + min(spans[part, 1], _PAGE) - 1)
    return seen
