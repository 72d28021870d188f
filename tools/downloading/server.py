"""Asking a server: what changes with a file's content, what it refuses, and what is worth asking again."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import requests
from urllib3 import Retry
from urllib3.exceptions import HTTPError, IncompleteRead, MaxRetryError, ReadTimeoutError

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

RETRIES: Final = Retry(total=8, backoff_factor=1, backoff_jitter=1, backoff_max=60)
"""How often a server is asked again that gives nothing new, and how long it is left alone before (seconds)."""
TIMEOUTS: Final = (15.0, 60.0)
"""How long a server may take to connect, and to send anything (seconds)."""
_PASSING: Final = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that another attempt may mend."""
_WORDS: Final = (
    (requests.exceptions.ProxyError, "the proxy does not let the request through"),
    (requests.exceptions.SSLError, "the server's certificate is not trusted"),
    ((requests.ReadTimeout, ReadTimeoutError), "the server sends nothing for too long"),
    (requests.ConnectTimeout, "the server cannot be reached in time"),
    (requests.ConnectionError, "the server cannot be reached"),
    (IncompleteRead, "the server ends the connection too early"),
    (HTTPError, "the connection broke"),
)
"""Kinds of errors, the special ones first, in words."""


class RefusedError(Exception):
    """A file cannot be had; the message is the reason."""


class UnreachableError(RefusedError):
    """No server answered at all."""


class ChangedError(Exception):
    """What there is of a file is not the beginning of what the server has; it must be begun anew."""


@dataclass(frozen=True)
class Version:
    """What changes with a file's content."""

    size: int | None
    """Length (bytes); None if the server does not say."""
    mark: str = ""
    """Its entity tag, or else the time of its last change; empty if the server tells neither."""

    @classmethod
    def of(cls, response: requests.Response) -> Version:
        """Read the headers of an answer."""
        headers = response.headers
        size = headers.get("Content-Length", "")
        if "Content-Range" in headers or response.status_code in (HTTPStatus.PARTIAL_CONTENT, 416):
            size = headers.get("Content-Range", "").rpartition("/")[2]
        tag = headers.get("ETag", "")
        if tag.startswith("W/"):  # of a weak one equal bytes do not follow, and If-Range does not take it
            tag = ""
        return cls(int(size) if size.isdecimal() else None, tag or headers.get("Last-Modified", ""))

    def may_be(self, other: Version) -> bool:
        """Whether nothing that both tell is different."""
        sizes, marks = {self.size, other.size} - {None}, {self.mark, other.mark} - {""}
        return len(sizes) < 2 and len(marks) < 2


def first_byte(response: requests.Response) -> int:
    """Return where the content of an answer begins in the file (bytes)."""
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(given[1]) if given else 0


class Server:
    """Answers of one or more servers, through the proxies of the environment; threads may share it."""

    def __init__(self, retries: Retry = RETRIES, timeouts: tuple[float, float] = TIMEOUTS) -> None:
        """Take how often and how fast to ask again, and how long to wait (seconds)."""
        self._retries = retries
        self._timeouts = timeouts
        self._of_thread = threading.local()

    @contextlib.contextmanager
    def ask(self, method: str, url: str, **headers: str) -> Iterator[requests.Response]:
        """Give the answer to one request, its content unread; redirects are followed each time anew.

        Raises what requests does, HTTPError for all statuses from 400 on but 416.
        """
        if not hasattr(self._of_thread, "session"):  # one that threads share is not safe
            self._of_thread.session = requests.Session()
        headers["Accept-Encoding"] = "identity"  # sizes and ranges are those of the file
        session: requests.Session = self._of_thread.session
        with session.request(
            method, url, headers=headers, stream=True, timeout=self._timeouts, allow_redirects=True
        ) as response:
            if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                response.raise_for_status()
            yield response

    def version(self, url: str) -> Version:
        """Return what the server has, by HEAD. Raises RefusedError."""

        def attempt() -> Version:
            try:
                with self.ask("HEAD", url) as response:
                    return Version.of(response)
            except requests.HTTPError as error:
                if _status(error) in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
                    return Version(None)
                raise

        return self.persist(url, attempt)

    def persist(self, what: str, attempt: Callable[[], Result], reached: Callable[[], int] = lambda: 0) -> Result:
        """Return what ``attempt`` does, repeated with growing pauses while its failures may pass.

        Args:
            what: is asked for, to be named in the log.
            attempt: raises what requests or urllib3 do, or ChangedError.
            reached: how far the attempts have come; whenever they come farther than ever, counting begins anew.

        Raises:
            RefusedError: it will not succeed.
            UnreachableError: nobody ever answered.
        """
        left, furthest, tries = self._retries, reached(), 0
        while True:
            try:
                return attempt()
            except (requests.RequestException, HTTPError, ChangedError) as error:
                response = error.response if isinstance(error, requests.HTTPError) else None
                if response is not None and response.status_code not in _PASSING:
                    raise RefusedError(in_words(error)) from None
                if reached() > furthest:
                    left, furthest, tries = self._retries, reached(), 0
                tries += 1
                try:
                    left = left.increment("GET", error=error)
                except MaxRetryError:
                    silent = isinstance(error, requests.ConnectionError | requests.Timeout)
                    kind = UnreachableError if silent and not furthest else RefusedError
                    raise kind(f"{in_words(error)}; tried {tries} times") from None
                if tries > 1 or response is not None:  # one broken connection is nothing to speak of
                    logger.info(f"{what}: {in_words(error)}; trying again ({tries} of {self._retries.total})")
                left.sleep(None if response is None else response.raw)  # obeys Retry-After


def in_words(error: Exception) -> str:
    """Say what went wrong with a request, without the addresses that requests' own words are full of."""
    if status := _status(error):
        phrase = f" ({HTTPStatus(status).phrase})" if status in set(HTTPStatus) else ""
        return f"the server answers {status}{phrase}"
    return next((words for kinds, words in _WORDS if isinstance(error, kinds)), str(error))


def _status(error: Exception) -> int:
    """Return the status of an answer that is an error; 0 if nothing was answered."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return 0
