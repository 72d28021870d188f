"""Files of Python as users write them: networks and stages of their own, some with a mistake."""

from __future__ import annotations

import textwrap
from pathlib import Path


def write_own(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    """Write ``own.py`` with words exchanged, (before, after) each; return the file."""
    text = textwrap.dedent(text)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "own.py"
    path.write_text(text)
    return path
