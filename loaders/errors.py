"""What is said to users: the exceptions that become one line, and text that can be printed."""

import unicodedata


class InputError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do about it.

    Commands print it and exit with status 2; anything else that is raised is a defect of the program.
    """


class Failure(Exception):
    """The work was asked for properly and cannot go on; the message is one line, the exit status 1."""


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
