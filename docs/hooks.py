"""Hooks of mkdocs: the page of commands is their own ``--help``."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r'^@command\(\s*"([\w.]+)", "(.+?)"', re.MULTILINE)
"""Its name and its description."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace each line ``::: commands FOLDER`` by the commands of a folder."""
    if page.file.src_uri != "commands.md":
        return markdown
    return re.sub(r"^::: commands (\w+)$", lambda line: "\n".join(_commands(line[1])), markdown, flags=re.MULTILINE)


def _commands(folder: str) -> list[str]:
    sys.path.insert(0, str(ROOT))
    lines = []
    for path in sorted((ROOT / folder).glob("*.py")):
        found = COMMAND.search(path.read_text(encoding="utf-8"))
        if found:
            call = f"python engine/{path.name}" if folder == "engine" else f"python -m {found[1]}"
            lines += [f"### `{call}`", "", found[2], "", "```", _help(f"{folder}.{path.stem}"), "```", ""]
    return lines


def _help(module: str) -> str:
    os.environ["COLUMNS"] = "80"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return output.getvalue().strip()
