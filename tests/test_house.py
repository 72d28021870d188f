"""Nothing names a machine or a package host, and every folder is a package; `make lint` holds the layers."""

import re
from pathlib import Path

FLOORS = ("models", "loaders", "engine", "tools", "benchmarks")
ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


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


def test_every_import_folder_is_a_package():
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)
