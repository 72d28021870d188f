"""Hooks of mkdocs: the page of commands shows their own ``--help``.

Run mkdocs as a module from the root of the repository, ``python -m mkdocs``: that makes our packages importable.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r'^@command\(\s*"([\w.]+)", "(.+?)"', re.MULTILINE)
"""A command's name and description, in its file."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace each line ``::: commands FOLDER`` by the commands of a folder."""
    if page.file.src_uri != "commands.md":
        return markdown
    return re.sub(r"^::: commands (\w+)$", lambda line: "\n".join(_commands(line[1])), markdown, flags=re.MULTILINE)


def _commands(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).glob("*.py")):
        if found := COMMAND.search(path.read_text(encoding="utf-8")):
            name, description = found.groups()
            call = f"python engine/{path.name}" if folder == "engine" else f"python -m {name}"
            yield f"### `{call}`\n\n{description}\n\n```\n{_help(f'{folder}.{path.stem}')}\n```\n"


def _help(module: str) -> str:
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return output.getvalue().strip()
