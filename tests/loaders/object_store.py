"""An object store that speaks as much of S3 as reading takes: HEAD, and GET of a range."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextlib.contextmanager
def object_store(root: Path) -> Iterator[str]:
    """Serve the files below ``root`` as s3://FOLDER/REST on this machine, and yield the endpoint."""
    # a process of its own: DALI keeps the interpreter's lock while it opens objects
    command = [sys.executable, __file__, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    root = Path()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self, *, body: bool) -> None:
        path = self.root / self.path.partition("?")[0].lstrip("/")
        status, content = (200, path.read_bytes()) if path.is_file() else (404, b"")
        if part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = map(int, part.groups())
            status, content = (206, content[first : last + 1]) if first < len(content) else (416, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


if __name__ == "__main__":
    _Handler.root = Path(sys.argv[1])
    service = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{service.server_port}\n")
    sys.stdout.flush()
    service.serve_forever()
