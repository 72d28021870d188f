"""Looking at what a dry run says, and at whether it left the disk as it was."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, folder and link below a folder, and of itself."""
    paths = (folder, *folder.rglob("*"))
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Make a folder that nobody can write to, not even root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=512m", "none", str(folder)]
    if os.geteuid():
        folder.chmod(0o555)
    elif subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        if os.geteuid():
            folder.chmod(0o755)
        else:
            subprocess.run(["umount", folder], check=True)


def rows(said: str) -> dict[str, str]:
    """Return what a dry run says, by the name in front of it; a value may go on below."""
    lines = said.splitlines()
    assert lines[0].split(maxsplit=2) == ["dry", "run", "nothing is written"]
    column = lines[0].index("nothing")
    found: dict[str, str] = {}
    for line in filter(None, lines):
        name = line[:column].strip()
        if name:
            last = name
            found[name] = found[name] + "; " + line[column:] if name in found else line[column:]
        else:
            found[last] = f"{found[last]} {line[column:]}".strip()
    return found


def bytes_of(words: str) -> float:
    """Return the bytes that "15.2 GB" means; what follows does not count."""
    number, unit = words.removeprefix("about ").replace(";", "").replace(",", "").split()[:2]
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
