"""What is said to users: the exceptions that become one line, warnings, and text that can be printed."""

import contextlib
import logging
import multiprocessing
import os
import unicodedata
from typing import Final

_WARNED: Final[set[str]] = set()
logger = logging.getLogger(__name__)


class InputError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do about it.

    Commands print it and exit with status 2; anything else that is raised is a defect of the program.
    """


class Failure(Exception):
    """The work was asked for properly and cannot go on; the message is one line, the exit status 1."""


def warn_once(lack: str, message: str) -> None:
    """Warn of something that this machine lacks, unless its processes have been told of this lack already.

    Worker processes leave it to their parent, and processes that torchrun started to the first one of the machine.
    """
    # a worker's `parent_process` is not known yet while it imports
    worker = multiprocessing.current_process().name != "MainProcess"
    if lack not in _WARNED and not worker and os.environ.get("LOCAL_RANK", "0") == "0":
        _WARNED.add(lack)
        with contextlib.suppress(ValueError):  # standard error may be closed
            logger.warning(message)


def printable(text: str) -> str:
    """Return text for messages and JSON, on one line: control characters and bytes that are no UTF-8 become escapes."""
    return "".join(
        _escape(character) if unicodedata.category(character) in ("Cc", "Cs") else character for character in text
    )


def _escape(character: str) -> str:
    # Python reads a byte of a file name that is no UTF-8 as one of these
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
