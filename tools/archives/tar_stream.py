"""A tar that is read once from its beginning to its end, as it is unzipped."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, Final

BUFFER: Final = 1 << 20
"""How much is unzipped and written at once, and the longest header (bytes)."""
_LARGEST_SPARSE: Final = 1 << 40
"""Size of the largest sparse file (bytes); the whole dataset is as large, and a few bytes may promise any size."""


class TarStream:
    """What tarfile needs to read headers; it only goes forward."""

    def __init__(self, unzipped: io.BufferedIOBase) -> None:
        self._unzipped = unzipped
        self._buffer = memoryview(bytearray(BUFFER))
        self._again = b""
        self._place = 0
        self.latest = b""
        """What `read` returned last."""

    def begins(self) -> bool:
        """Skip the zeros that end tars; return whether anything follows."""
        while block := self._unzipped.read(tarfile.BLOCKSIZE):
            if any(block):
                if len(block) < tarfile.BLOCKSIZE and self._place:
                    raise tarfile.ReadError("what follows the end of a tar is none")
                self._again = block
                return True
            self._place += len(block)
        if not self._place:
            raise tarfile.ReadError("empty file")
        return False

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._place

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises EOFError if they are not all there."""
        if not 0 <= size <= BUFFER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        again, self._again = self._again, b""
        self.latest = again + self._unzipped.read(size - len(again))
        self._place += len(self.latest)
        if len(self.latest) < size:
            raise EOFError
        return self.latest

    def seek(self, place: int) -> None:
        """Go forward to a place."""
        if place < self._place:
            raise tarfile.ReadError("a member of negative size")
        while self._place < place:
            self.read(min(place - self._place, BUFFER))

    def content(self, header: tarfile.TarInfo, end: int) -> Iterator[memoryview | int]:
        """Yield a file's content piece by piece, in one buffer that is used again; a number is a hole (bytes).

        It is what the stream holds from here to ``end``, filled up to whole blocks.
        """
        if not header.issparse():
            yield from self._stored(header.size)
            return
        if header.size > _LARGEST_SPARSE:
            raise tarfile.ReadError(f"a sparse file of {header.size} bytes")
        sparse: Any = header.sparse  # its stub takes the list for bytes
        pieces = [(start, size) for start, size in sparse if size]
        if not 0 <= end - self._place - sum(size for _, size in pieces) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a sparse file of another length than is stored of it")
        place = 0
        for start, size in (*pieces, (header.size, 0)):
            if start < place or size < 0:
                raise tarfile.ReadError("a sparse file whose pieces overlap")
            if start > place:
                yield start - place
            yield from self._stored(size)
            place = start + size

    def _stored(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            count = self._unzipped.readinto(self._buffer[: min(size, BUFFER)])
            if not count:
                raise EOFError
            self._place += count
            size -= count
            yield self._buffer[:count]
