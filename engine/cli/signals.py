"""Signals that ask a command to stop: answered at once, obeyed as soon as the work allows."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ECHO: Final = 1.0
"""`timeout` and others signal a process, and its group at once: so long the same signal counts once (seconds)."""
_TORCHRUN_ECHO: Final = 5.0
"""A scheduler signals all processes, and torchrun hands its own on: so long it counts once under torchrun (seconds)."""


class Stopped(KeyboardInterrupt):
    """A signal stops the work; nothing is left to be done."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Signals:
    """Notes SIGTERM, SIGINT and SIGHUP; a second SIGTERM or SIGINT, if it is no echo, ends the process at once.

    A thread of its own reads them: both hold also while the main thread computes or waits for other processes. SIGHUP
    stays ignored where nohup ignores it, and is never a second one, since shells and the kernel both send it.
    """

    def __init__(self, answer: Callable[[str], None], *, raises: bool = False) -> None:
        """Listen until `close`.

        Args:
            answer: takes the name of the first signal, in another thread than this one.
            raises: within the context, raise Stopped in the main thread, whatever it does; otherwise `number` is all
                that changes.
        """
        self.number = 0
        """The signal that came, 0 for none."""
        self._answer = answer
        self._raises = raises
        self._armed = False
        self._first = 0
        """The signal that the main thread saw first, 0 for none."""
        self._received_at: float | None = None
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._previous_wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()  # before a signal can come
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        self._previous = {number: signal.signal(number, self._handle) for number in _STOPPING if number not in ignored}

    def __enter__(self) -> Self:
        try:
            self._armed = self._raises
            if self._armed and self._first:
                raise Stopped(self._first)
        except Stopped:
            self.close()  # waits for the answer
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def note(self, number: int) -> None:
        """Note a signal that came to this process or to another one; the first one is answered."""
        if not self.number:
            self.number = number
            with contextlib.suppress(OSError, ValueError):  # nobody reads the answer
                self._answer(signal.Signals(number).name)

    def close(self) -> None:
        """Hand the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    def _listen(self) -> None:
        while received := os.read(self._reading, 1):
            number = received[0]
            if number not in _STOPPING:
                continue
            if self._received_at is None:
                self._received_at = time.monotonic()
                self.note(number)
            elif number != signal.SIGHUP and not self._is_echo(number):
                os._exit(128 + number)

    def _is_echo(self, number: int) -> bool:
        assert self._received_at is not None
        echo = _TORCHRUN_ECHO if "TORCHELASTIC_RUN_ID" in os.environ else _ECHO
        return number == self.number and time.monotonic() - self._received_at < echo

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Take the place of what Python would do in the main thread; `_listen` does the rest."""
        self._first = self._first or number
        if self._armed:
            self._armed = False
            raise Stopped(number)
