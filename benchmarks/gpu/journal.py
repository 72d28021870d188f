"""What the GPU suite leaves: a line per step, written at once, and one archive of lines, tables and logs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.tables import page
from loaders.system.files import write_whole

LINES: Final = "steps.jsonl"
PAGE: Final = "README.md"
LOGS: Final = "logs"
ARCHIVE: Final = "gpu_suite.tar.gz"
_LONGEST_LOG: Final = 2**17
"""How much of a log's end is kept (bytes): the archive of 50 of them is a few MB at most."""


@dataclass
class Journal:
    """The folder of a run. After each line its archive is renewed, so that a run killed at any moment leaves one."""

    folder: Path
    origin: dict[str, Any]
    _lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / LOGS).mkdir(parents=True, exist_ok=True)
        for old in self.logs():
            old.unlink()
        (self.folder / LINES).unlink(missing_ok=True)
        self._append(self.origin)

    def note(self, step: str, status: str, seconds: float, **found: Any) -> None:
        """Append a step's line: done with its figures, failed with its reason, or skipped with its reason."""
        self._append({"step": step, "status": status, "seconds": round(seconds, 2), **found})

    def logs(self) -> Iterator[Path]:
        """Return the steps' logs."""
        return (self.folder / LOGS).glob("*.log")

    def _append(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        with (self.folder / LINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
        write_whole(self.folder / PAGE, page(self._lines[0], self._lines[1:]).encode())
        write_whole(self.folder / ARCHIVE, self._archive())

    def _archive(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path in (self.folder / LINES, self.folder / PAGE, *sorted(self.logs())):
                content = path.read_bytes()[-_LONGEST_LOG:] if path.suffix == ".log" else path.read_bytes()
                info = tarfile.TarInfo(str(path.relative_to(self.folder)))
                info.size, info.mtime = len(content), int(path.stat().st_mtime)
                archive.addfile(info, io.BytesIO(content))
        return packed.getvalue()


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return origin and lines of a run. A line that was cut ends them."""
    lines = []
    for text in (folder / LINES).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines[0], lines[1:]
