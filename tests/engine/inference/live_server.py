"""A camera on this machine: a server that sends a video as it would be taken, frame by frame."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np

RATE = 30
"""Frames a second."""


def encoded(frames: Sequence[np.ndarray]) -> list[bytes]:
    """Return what an MPEG transport stream of images (H, W, 3) has to send for each of them."""
    pieces: list[bytes] = [b""]

    class Sent:
        def write(self, data: bytes) -> int:
            pieces[-1] += bytes(data)
            return len(data)

    with av.open(Sent(), "w", format="mpegts", options={"flush_packets": "1"}) as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "crf": "10"}
        stream: Any = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            pieces.append(b"")
        container.mux(stream.encode())
    return pieces


@dataclass
class LiveServer:
    """Sends to one who listens; ``sent`` counts frames."""

    address: str
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def live_server(pieces: Sequence[bytes], end: Literal["close", "reset", "silence"] = "close") -> Iterator[LiveServer]:
    """Serve each piece at its time; then close the connection, break it, or keep it and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = LiveServer(f"tcp://127.0.0.1:{listening.getsockname()[1]}")

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):  # who listens may leave
                begun = time.monotonic()
                for number, piece in enumerate(pieces):
                    if server.ended.wait(max(0.0, begun + number / RATE - time.monotonic())):
                        break
                    connection.sendall(piece)
                    server.sent = number + 1
                if end == "reset":  # what lies unread at the other end is lost
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif end == "silence":
                    server.ended.wait()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        server.ended.set()
