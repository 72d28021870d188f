"""Python with some of the installed packages hidden, for a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.tools.shard_runs import ROOT
from tools.machine.finding import Finding

INSTALLED = Path(sysconfig.get_path("purelib"))
OPENED = ("nvidia", "torchvision")
"""Folders of which a part may be hidden."""
PROGRAM = """
import dataclasses, json, sys
from tools.machine.finding import Probe
print(json.dumps(dataclasses.asdict(Probe("", sys.argv[1], tuple(sys.argv[2:])).finding())))
"""


def python_without(folder: Path, *hidden: str) -> Path:
    """Make a virtual environment that has links to what is installed, but not to what these patterns match."""
    venv.create(folder, symlinks=True, with_pip=False)
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for entry in INSTALLED.iterdir():
        entries = entry.iterdir() if entry.name in OPENED else [entry]
        for path in entries:
            name = path.relative_to(INSTALLED)
            if not any(name.match(pattern) for pattern in hidden):
                (target / name).parent.mkdir(exist_ok=True)
                (target / name).symlink_to(path)
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    return python.parents[1] / INSTALLED.relative_to(sys.prefix)


def add_distribution(python: Path, name: str, version: str) -> None:
    """Note a package as installed, as pip does."""
    folder = site_packages(python) / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def examine(
    function: str, *arguments: str, python: Path | str = sys.executable, cwd: Path = ROOT, **variables: str
) -> Finding:
    """Return what a probe's function finds in a process of its own; variables of the environment may be set."""
    done = subprocess.run(
        [python, "-c", PROGRAM, f"tools.machine.{function}", *arguments],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Finding(**json.loads(done.stdout.splitlines()[-1]))
