"""The house stays tidy: imports go down only, and nothing names a machine or a package host."""

import ast
import re
from pathlib import Path

import pytest

FLOORS = ("models", "loaders", "engine", "tools", "benchmarks")
ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    floor = path.relative_to(ROOT).parts[0]
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    if floor == "tools":
        above = {"benchmarks"}
    assert not above & set(imported(path))


def test_no_file_names_a_machine_or_a_package_host():
    folders = [*FLOORS, "configs", "tests", ".ci"]
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if path.parent.name != "__pycache__"]
    # spelt in two parts, or this file would name them
    forbidden = re.compile("/wo" + "rk/|/ro" + r"ot/|https?://[^ ]*(py" + "pi|np" + "mjs)")
    found = []
    for path in files:
        if path.suffix != ".png":
            text = path.read_text(errors="replace")
            found += [f"{path.relative_to(ROOT)}: {line}" for line in text.splitlines() if forbidden.search(line)]
    assert not found


def test_every_import_folder_is_a_package_and_installed():
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)
    installed = re.search(r"packages=\[(.*?)\]", (ROOT / "setup.py").read_text())[1]
    for folder in folders:
        if folder.parts[0] != "benchmarks":
            assert f'"{".".join(folder.parts)}"' in installed
