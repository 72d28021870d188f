"""Our packages beside somebody else's of the same names: one ImportError that says what was found, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.shard_runs import ROOT

pytestmark = pytest.mark.slow

EXPECTED = ROOT / "models" / "__init__.py"


def python(cwd, *arguments, **variables):
    """Run Python where ours are installed as a wheel would be, or as a checkout in PYTHONPATH is."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def message(done):
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert done.stderr.count("Error: ") == 1  # no second one in its wake
    return last


def make(path, text="HIS = True\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("ours", ["loaders", "engine", "tools", "engine.infer", "tools.machine.finding"])
@pytest.mark.parametrize("his", ["models.py", "models/__init__.py"])
def test_a_module_or_package_that_is_found_first(tmp_path, his, ours):
    found = make(tmp_path / his)
    said = message(python(tmp_path, "-c", f"import {ours}"))
    package = ours.partition(".")[0]
    assert said == (
        f"ImportError: package {package!r} in {ROOT} needs the package 'models' beside it, {EXPECTED}, but Python "
        f"finds {found}: start Python with -P, or rename what it finds first"
    )


def test_the_remedy_helps(tmp_path):
    make(tmp_path / "models.py", "raise SystemExit('his')")
    done = python(tmp_path, "-P", "-c", "import tools, engine, loaders, models; print(models.__file__)")
    assert done.stdout.strip() == str(EXPECTED), done.stderr


@pytest.mark.parametrize("folder", ["script", "module"])
def test_a_command_in_a_folder_that_holds_another_models(tmp_path, folder):
    found = make(tmp_path / "models.py")
    if folder == "module":
        assert str(found) in message(python(tmp_path, "-m", "tools.doctor", "--help"))
    else:  # its guard looks beside the file
        assert python(tmp_path, ROOT / "engine" / "infer.py", "--help").returncode == 0


@pytest.mark.parametrize("name", ["engine", "loaders"])
def test_every_package_below_is_looked_at(tmp_path, name):
    found = make(tmp_path / name / "__init__.py", "raise SystemExit('his code has run')")
    assert f"needs the package {name!r} beside it, {ROOT / name / '__init__.py'}" in (
        said := message(python(tmp_path, "-c", "import tools"))
    )
    assert f"Python finds {found}" in said


def test_a_package_that_was_imported_before(tmp_path):
    """As by a program that adds a folder to its path later."""
    found = make(tmp_path / "models" / "__init__.py")
    program = f"import sys; import models; sys.path.insert(0, {str(ROOT)!r}); import loaders"
    said = message(python(tmp_path, "-c", program, PYTHONPATH=""))
    assert f"has imported {found} before: use them in different processes, or rename that one" in said


@pytest.mark.parametrize("spec", ["None", "importlib.machinery.ModuleSpec('models', None)"])
def test_a_module_without_a_file(tmp_path, spec):
    program = (
        "import importlib.machinery, sys, types; sys.modules['models'] = types.ModuleType('models');"
        f"sys.modules['models'].__spec__ = {spec}; import loaders"
    )
    assert "has imported another one before" in message(python(tmp_path, "-c", program))


def test_a_package_that_is_not_there(tmp_path):
    (tmp_path / "models").mkdir()
    for path in ("loaders/__init__.py", "models/siblings.py"):
        make(tmp_path / path, (ROOT / path).read_text())
    program = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]; import loaders"
    said = message(python(tmp_path, "-S", "-c", program, PYTHONPATH=""))
    assert f"needs the package 'models' beside it, {tmp_path / 'models/__init__.py'}, but Python finds" in said


def test_a_link_to_the_checkout_is_the_checkout(tmp_path):
    (tmp_path / "link").symlink_to(ROOT)
    done = python(tmp_path, "-c", "import tools; print(tools.__file__)", PYTHONPATH=str(tmp_path / "link"))
    assert Path(done.stdout.strip()) == tmp_path / "link" / "tools" / "__init__.py", done.stderr


def test_what_is_looked_at_costs_no_import(tmp_path):
    program = "import tools, sys; print({'numpy', 'torch', 'engine', 'loaders', 'models'} & sys.modules.keys())"
    assert python(tmp_path, "-c", program).stdout == "set()\n"
