"""Bytes to normalized float planes, in one pass on the CPU."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from loaders.system.compiled import compiled

_BLOCK: Final = 16
"""Pixels that are normalized together (pixels)."""
_ALIGNED: Final = 16
"""What addresses of stores past the caches are multiples of (bytes)."""
_SCALE: Final = 1 / 127.5


@compiled
def fill_planes(pixels: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """Write an image (H, W, 3 or 4), contiguous, 0 to 255, into planes (3, H, W), -1 to 1."""
    count = pixels.shape[0] * pixels.shape[1]
    channels = pixels.shape[2]
    if count % _BLOCK or planes.ctypes.data % _ALIGNED:
        source, out = pixels.reshape(count, channels), planes.reshape(3, count)
        for i in range(count):
            for c in range(3):
                out[c, i] = np.float32(source[i, c]) * np.float32(_SCALE) - np.float32(1)
        return
    source_at, out_at = pixels.ctypes.data, planes.ctypes.data
    if channels == 4:
        for i in range(0, count, _BLOCK):
            _stream_4(source_at + 4 * i, out_at + 4 * i, 4 * count)
    else:
        for i in range(0, count, _BLOCK):
            _stream_3(source_at + 3 * i, out_at + 4 * i, 4 * count)
    _wait_for_streams()


def _stream(channels: int) -> Any:
    """Return compiled code that normalizes a block: from an address, to the first plane's, and the planes' distance.

    Stores go past the caches. A batch of floats is larger than any of them: storing into one would first read from
    memory what is then overwritten.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, out, distance = arguments
        block = ir.VectorType(ir.IntType(8), channels * _BLOCK)
        floats = ir.VectorType(ir.FloatType(), _BLOCK)
        pixels = builder.load(builder.inttoptr(source, block.as_pointer()), align=1)
        for channel in range(3):
            places = [channels * i + channel for i in range(_BLOCK)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), _BLOCK), places)
            levels = builder.uitofp(builder.shuffle_vector(pixels, pixels, mask), floats)
            scaled = builder.fmul(levels, ir.Constant(floats, [_SCALE] * _BLOCK))
            value = builder.fsub(scaled, ir.Constant(floats, [1.0] * _BLOCK))
            store = builder.store(value, builder.inttoptr(out, floats.as_pointer()), align=_ALIGNED)
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            out = builder.add(out, distance)
        return context.get_dummy_value()

    def stream(context: Any, source: Any, out: Any, distance: Any) -> Any:
        return types.void(types.uintp, types.uintp, types.uintp), generate

    return intrinsic(stream)


def _fence(context: Any) -> Any:
    """Make what was stored past the caches visible to other threads before anything that is stored later."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


_stream_3, _stream_4 = _stream(3), _stream(4)
_wait_for_streams: Any = intrinsic(_fence)
