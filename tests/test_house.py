"""No file names a machine or a package host, and every folder is a package; `make lint` holds the layers."""

import re
import subprocess
from pathlib import Path

import pytest

FLOORS = ("models", "loaders", "engine", "tools", "benchmarks")
ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def project_files():
    """Return every file that is in the repository, or would be with the next commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: its own files cannot be told from others")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_package_host():
    # spelt in two parts, or this file would name them
    forbidden = re.compile("/wo" + "rk/|/ro" + r"ot/|https?://[^ ]*(py" + "pi|np" + "mjs|python" + "hosted)")
    found = []
    files = project_files()
    for path in files:
        content = path.read_bytes()
        if b"\0" in content:  # an image
            continue
        lines = content.decode(errors="replace").splitlines()
        found += [f"{path.relative_to(ROOT)}: {line}" for line in lines if forbidden.search(line)]
    assert not found
    folders = {path.relative_to(ROOT).parts[0] for path in files}
    assert {*FLOORS, "configs", "docs", "tests", ".ci", ".github", "README.md"} <= folders


def test_every_import_folder_is_a_package():
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)
