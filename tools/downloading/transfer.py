"""One file from a server to the disk, which appears there whole or not at all."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Final

import requests
from urllib3.exceptions import IncompleteRead

from loaders.system.files import PARTIAL, publish
from loaders.system.os_errors import naming
from tools.downloading.server import ChangedError, Server, Version, first_byte
from tools.parallel import Progress

_BUFFER: Final = 1 << 18
"""How much is received and written at once (bytes)."""
_ANSWERS: Final = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}


def received(path: Path) -> int:
    """Return how much an unfinished transfer has of a file (bytes)."""
    partial = _partial(path)
    return partial.stat().st_size if partial.is_file() else 0


def settle(path: Path) -> None:
    """Remove what a call that was killed in its very last moment left beside a file that is whole."""
    _note(path).unlink(missing_ok=True)


def fetch(server: Server, url: str, path: Path, progress: Progress) -> None:
    """Download a file, from where an earlier call was interrupted, however that was.

    Args:
        server: asks for it.
        url: its address, which may redirect.
        path: where it gets to; what is there is replaced in the end.
        progress: counts received bytes, and may raise to end the transfer.

    Raises:
        RefusedError: it cannot be had.
        OSError: it cannot be written.
    """
    with naming(path):
        transfer = _Transfer(server, url, path, progress)
        server.persist(path.name, transfer.attempt, lambda: transfer.furthest)


class _Transfer:
    """The attempts to get one file.

    What has come so far is beside the path, with a note of its version: a file that changes on the server is begun
    anew, since the beginning of one and the end of another would make neither.
    """

    def __init__(self, server: Server, url: str, path: Path, progress: Progress) -> None:
        self._server, self._url, self._path, self._progress = server, url, path, progress
        self._partial = _partial(path)
        self._note = _note(path)
        self.furthest = received(path)
        """The most that there ever was of the file (bytes)."""

    def attempt(self) -> None:
        """Get all that is lacking in one request. Raises ChangedError after throwing away what does not fit."""
        version = self._noted()
        start = received(self._path) if version else 0
        headers = {}
        if version and start:
            headers["Range"] = f"bytes={start}-"
            if version.mark:
                headers["If-Range"] = version.mark
        with self._server.ask("GET", self._url, **headers) as response:
            if response.status_code not in _ANSWERS:
                raise requests.HTTPError(response=response)
            given = Version.of(response)
            if version is None or not start or response.status_code == HTTPStatus.OK:  # all of it, asked for or not
                self._begin(given)
                version, start = given, 0
            elif not given.may_be(version):
                self._discard("the file changed on the server")
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if not start or start != given.size:
                    self._discard("the server has less of the file than is here")
            elif first_byte(response) != start:
                self._discard("the server gives another range than it was asked for")
            else:
                self._receive(response)
        size, expected = received(self._path), given.size if version.size is None else version.size
        if expected is not None and size < expected:  # a range may be answered by less than was asked for
            raise IncompleteRead(size, expected - size)
        if expected is not None and size > expected:
            self._discard("the server gives more than the length that it told")
        publish(self._partial, self._path)
        settle(self._path)

    def _receive(self, response: requests.Response) -> None:
        with self._partial.open("ab", buffering=0) as file:
            # as it is, also where a server takes the archive for a compressed answer
            for piece in response.raw.stream(_BUFFER, decode_content=False):
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
                self.furthest = max(self.furthest, file.tell())
                self._progress.add(len(piece))

    def _noted(self) -> Version | None:
        """Return the version of what there is; None if there is nothing, or nothing is known of it."""
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            return Version(noted["size"], noted["mark"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _begin(self, version: Version) -> None:
        self._partial.unlink(missing_ok=True)  # first: a note never belongs to an older file
        self._note.write_text(json.dumps({"size": version.size, "mark": version.mark}), encoding="utf-8")
        self._partial.touch()

    def _discard(self, reason: str) -> None:
        self._partial.unlink(missing_ok=True)
        raise ChangedError(reason)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.version{PARTIAL}")
