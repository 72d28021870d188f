"""A tar that is read once, from its beginning to its end, while it is decompressed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, Final

BUFFER: Final = 1 << 20
"""How much is decompressed and written at once, and the longest header (bytes)."""
_LARGEST_SPARSE: Final = 1 << 40
"""Size of the largest sparse file (bytes): that of the whole dataset. A header may claim any size."""


class TarStream:
    """The file object that tarfile reads headers from; it only goes forward."""

    def __init__(self, decompressed: io.BufferedIOBase) -> None:
        self._decompressed = decompressed
        self._buffer = memoryview(bytearray(BUFFER))
        self._pushed_back = b""
        self._offset = 0
        self.latest = b""
        """Result of the latest `read`."""

    def begins(self) -> bool:
        """Skip the zeros at the end of a tar; return whether another tar follows."""
        while block := self._decompressed.read(tarfile.BLOCKSIZE):
            if any(block):
                if len(block) < tarfile.BLOCKSIZE and self._offset:
                    raise tarfile.ReadError("what follows the end of a tar is none")
                self._pushed_back = block
                return True
            self._offset += len(block)
        if not self._offset:
            raise tarfile.ReadError("empty file")
        return False

    def tell(self) -> int:
        """Return the offset (bytes)."""
        return self._offset

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises EOFError if there are fewer."""
        if not 0 <= size <= BUFFER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        pushed_back, self._pushed_back = self._pushed_back, b""
        self.latest = pushed_back + self._decompressed.read(size - len(pushed_back))
        self._offset += len(self.latest)
        if len(self.latest) < size:
            raise EOFError
        return self.latest

    def seek(self, offset: int) -> None:
        """Go forward to an offset (bytes)."""
        if offset < self._offset:
            raise tarfile.ReadError("a member of negative size")
        while self._offset < offset:
            self.read(min(offset - self._offset, BUFFER))

    def content(self, header: tarfile.TarInfo, end: int) -> Iterator[memoryview | int]:
        """Yield a file's content in pieces, which share one buffer; an integer is a hole of so many zeros (bytes).

        The content lies between the current offset and ``end``, padded to whole blocks.
        """
        if not header.issparse():
            yield from self._stored(header.size)
            return
        if header.size > _LARGEST_SPARSE:
            raise tarfile.ReadError(f"a sparse file of {header.size} bytes")
        sparse: Any = header.sparse  # its stub takes the list for bytes
        pieces = [(start, size) for start, size in sparse if size]
        if not 0 <= end - self._offset - sum(size for _, size in pieces) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a sparse file of another length than is stored of it")
        position = 0
        for start, size in (*pieces, (header.size, 0)):
            if start < position or size < 0:
                raise tarfile.ReadError("a sparse file whose pieces overlap")
            if start > position:
                yield start - position
            yield from self._stored(size)
            position = start + size

    def _stored(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            count = self._decompressed.readinto(self._buffer[: min(size, BUFFER)])
            if not count:
                raise EOFError
            self._offset += count
            size -= count
            yield self._buffer[:count]
