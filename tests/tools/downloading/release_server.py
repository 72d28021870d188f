"""A server of files with all the faults that servers and networks have, each when a test wants it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What is wrong with one answer to GET."""

    status: int = 0
    """An error instead of the file."""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Break the connection after so many bytes of the answer."""
    stall: int | None = None
    """Send nothing after so many bytes of the answer, until the test ends."""
    ignore_range: bool = False
    ignore_if_range: bool = False
    promise: int = 0
    """Announce so many bytes more than there are."""
    tags: bool = True
    """Tell what changes with the content."""
    replace: bytes | None = None
    """What the file becomes after this answer."""


class ReleaseServer:
    """Files, by name, below ``url``, which redirects to an address that is good for one request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        """By name: those of the next answers to GET."""
        self.always: dict[str, Fault] = {}
        """By name: that of all answers, to HEAD too if it is a status."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, name and range of all that were answered with a file or a fault of it."""
        self.times: list[float] = []
        """When they came (seconds)."""
        self.sent: dict[str, int] = defaultdict(int)
        """By name, how much of the file was sent (bytes)."""
        self.answers_head = True
        self.pace: float = 0.0
        """Pause after every 64 kB (seconds)."""
        self.over = threading.Event()
        self.tickets: set[str] = set()
        self.url = ""

    def gets(self, name: str) -> list[str]:
        """Return the ranges of a file that were asked for, "" for all of it."""
        return [asked for method, one, asked in self.requests if (method, one) == ("GET", name)]


@contextlib.contextmanager
def serving() -> Iterator[ReleaseServer]:
    """Run a server on this machine."""
    release = ReleaseServer()

    class Handler(_Handler):
        server_of = release

    with _Service(("127.0.0.1", 0), Handler) as http:
        release.url = f"http://127.0.0.1:{http.server_port}/v1.0"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield release
        finally:
            release.over.set()
            http.shutdown()
            thread.join()


class _Service(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Stay silent when a client has gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of: ReleaseServer

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def _route(self) -> None:
        release = self.server_of
        if self.command == "HEAD" and not release.answers_head:
            self._empty(405, {})
            return
        parts = re.sub(r"^http://[^/]+", "", self.path).strip("/").split("/")  # a proxy is asked for whole addresses
        name = parts[-1]
        if parts[0] == "v1.0":
            ticket = f"{len(release.requests)}-{time.monotonic_ns()}"
            release.tickets.add(ticket)
            self._empty(302, {"Location": f"/signed/{ticket}/{name}"})
        elif parts[1] not in release.tickets:
            self._empty(403, {})
        else:
            release.tickets.discard(parts[1])
            self._answer(name)

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": "0", **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def _answer(self, name: str) -> None:
        release, asked = self.server_of, self.headers.get("Range", "")
        release.requests.append((self.command, name, asked))
        release.times.append(time.monotonic())
        fault = release.always.get(name) or Fault()
        if self.command == "GET" and release.faults[name]:
            fault = release.faults[name].pop(0)
        content = release.files.get(name)
        if content is None or (fault.status and (self.command == "GET" or name in release.always)):
            self._empty(fault.status or 404, fault.headers)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"' if fault.tags else ""
        size, first, status, headers = len(content), 0, 200, dict(fault.headers)
        one_range = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        fresh = fault.ignore_if_range or self.headers.get("If-Range", tag) == tag
        if one_range and fresh and not fault.ignore_range:
            first, status = int(one_range[1]), 206
            if first >= size:
                self._empty(416, {"Content-Range": f"bytes */{size}"})
                return
            content = content[first : int(one_range[2] or size) + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(content) - 1}/{size}"
        self.send_response(status)
        headers |= {"Content-Length": str(len(content) + fault.promise)} | ({"ETag": tag} if tag else {})
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self._send(name, content, fault)

    def _send(self, name: str, content: bytes, fault: Fault) -> None:
        release = self.server_of
        end = next((one for one in (fault.cut, fault.stall) if one is not None), len(content))
        with contextlib.suppress(OSError):
            for start in range(0, min(end, len(content)), 1 << 16):
                piece = content[start : min(start + (1 << 16), end)]
                release.sent[name] += len(piece)
                self.wfile.write(piece)
                if release.pace:
                    release.over.wait(release.pace)
            if fault.stall is not None:
                release.over.wait()
        if fault.replace is not None:
            release.files[name] = fault.replace
        if fault.cut is not None or fault.stall is not None or fault.promise:
            self.close_connection = True
