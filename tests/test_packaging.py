"""The package as others get it: files, types, Python versions, and the names of packages in messages."""

import ast
import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.tools.machine.environments import python_without
from tools.machine import software

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "loaders", "models", "tools")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
INSTALL = ("install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet")


@pytest.fixture(scope="module")
def tracked():
    """Return the names of all files that belong to the project."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git here")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def copy(tracked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", folder)
    subprocess.run([*PIP, *build, copy], check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(file.read(name))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the Python of an environment in which the wheel is installed, and an empty folder."""
    python = python_without(tmp_path_factory.mktemp("installed") / "venv", "*egopose_engine*")
    subprocess.run([*PIP, "--python", python, *INSTALL, wheel], check=True)
    return python


def alone(python, folder, *arguments):
    """Run Python in a folder, without what this process has in its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    return subprocess.run(
        [python, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_has_every_file_of_the_packages_and_no_other(tracked, wheel):
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if ".dist-info/" not in name}
    assert found == {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert {f"{package}/py.typed" for package in PACKAGES} <= found
    assert any(name.endswith(".j2") for name in found)


def test_every_module_of_the_wheel_can_be_imported(installed, tmp_path):
    program = (
        "import importlib, pkgutil\n"
        f"for package in map(importlib.import_module, {PACKAGES}):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        try:\n"
        "            print(importlib.import_module(module.name).__file__)\n"
        "        except ModuleNotFoundError as error:\n"
        "            if error.name != 'trackio': raise\n"  # in no environment that we make
    )
    done = alone(installed, tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) > 100
    assert all(Path(name).is_relative_to(installed.parents[1]) for name in files)
    assert alone(installed, tmp_path, "-m", "tools.doctor", "--help").returncode == 0


def test_somebody_elses_packages_beside_the_wheel(installed, tmp_path):
    """Where ours are installed, a folder without `__init__.py` gives way to them, and a package hides them."""
    (tmp_path / "models").mkdir()
    assert alone(installed, tmp_path, "-c", "import tools").returncode == 0
    (tmp_path / "models" / "__init__.py").touch()
    done = alone(installed, tmp_path, "-c", "import tools")
    assert f"Python finds {tmp_path}/models/__init__.py: start Python with -P" in done.stderr.splitlines()[-1]


def test_a_folder_beside_an_editable_installation(copy, tmp_path_factory, tmp_path):
    """There even a folder without `__init__.py` comes first."""
    python = python_without(tmp_path_factory.mktemp("editable") / "venv", "*egopose_engine*")
    subprocess.run([*PIP, "--python", python, *INSTALL, "--editable", copy], check=True)
    done = alone(python, tmp_path, "-c", "import tools; print(tools.__file__)")
    assert done.stdout.strip() == str(copy / "tools" / "__init__.py"), done.stderr
    (tmp_path / "models").mkdir()
    done = alone(python, tmp_path, "-c", "import tools")
    last = done.stderr.splitlines()[-1]
    assert f"beside it, {copy}/models/__init__.py, but Python finds {tmp_path}/models: start Python with -P" in last
    assert alone(python, tmp_path, "-P", "-c", "import tools").returncode == 0


def test_a_users_program_is_type_checked(wheel, tmp_path):
    """Of a package that ships no types, mypy says so, and takes all that it has for Any."""
    bare = python_without(tmp_path / "venv", "*")  # to check torch takes a minute
    subprocess.run([*PIP, "--python", bare, *INSTALL, wheel], check=True)
    (tmp_path / "program.py").write_text(
        "from engine.cli.progress import write_line\n"
        "from loaders import DataConfig\n"
        "from models.xr_egopose import CAMERA\n"
        "from tools.machine.finding import Finding\n"
        "reveal_type(DataConfig.batch_size)\n"
        "reveal_type(CAMERA.fx)\n"
        "reveal_type(Finding('ok', '').found)\n"
        "write_line(b'no text')\n"
    )
    flags = ("--strict", "--python-executable", bare, "--cache-dir", tmp_path / "cache", "program.py")
    done = alone(sys.executable, tmp_path, "-m", "mypy", *flags)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert lines[:3] == [f'note: Revealed type is "{name}"' for name in ("int", "float", "str")], done.stdout
    assert 'Argument 1 to "write_line" has incompatible type "bytes"; expected "str"' in lines[3]
    assert done.stdout.splitlines()[-1] == "Found 1 error in 1 file (checked 1 source file)"


def test_python_versions_agree_everywhere(metadata):
    least = ".".join(map(str, software.MINIMUM))
    assert metadata["Requires-Python"] == f">={least}"
    classifiers = metadata.get_all("Classifier")
    supported = [match[1] for match in map(re.compile(r".* :: Python :: (3\.\d+)$").match, classifiers) if match]
    assert supported[0] == least
    assert all(version in SpecifierSet(metadata["Requires-Python"]) for version in supported)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert config["ruff"]["target-version"] == "py" + least.replace(".", "")
    assert config["mypy"]["python_version"] == least
    named = set(re.findall(r"Python (3\.\d+) or newer", (ROOT / "README.md").read_text()))
    assert named <= {least}
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if workflow.exists():
        tested = [version for key, version in leaves(yaml.safe_load(workflow.read_text())) if key == "python-version"]
        assert {str(version) for version in tested if not str(version).startswith("$")} <= set(supported)


def leaves(node, key=""):
    """Yield every value in a YAML file with the key that it stands under."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, key)
    else:
        yield key, node


@pytest.fixture(scope="module")
def requirements(metadata):
    return [Requirement(line) for line in metadata.get_all("Requires-Dist")]


def test_optional_parts_of_the_doctor_are_the_extras(requirements):
    for part, (_, packages) in software.OPTIONAL.items():
        extra = {requirement for requirement in requirements if requirement.marker and part in str(requirement.marker)}
        assert {f"{one.name}{'[distributed]' if one.extras else ''}" for one in extra} == packages.keys()


ADVICE = re.compile(r"pip (?:un)?install((?: (?:--[\w-]+|'[^']+'|[\w.-]+(?:\[\w+\])?))*)")
COMPUTED = {"tools/machine/software.py", "tools/machine/decoding.py"}
"""Modules that fill in names of packages, out of tables that tests hold and of the requirements."""
WORDS = {"one", "the"}
"""What may follow in a sentence."""


def test_messages_name_packages_that_can_be_installed(requirements, tracked):
    """This project itself is published nowhere, and Apex is built from its source: another package has its name."""
    known = {requirement.name for requirement in requirements} | {".", "trackio"}  # which fits no tested Pillow
    advised = set()
    for name in tracked:
        if not (name.endswith(".py") and name.startswith((*PACKAGES, "benchmarks"))):
            continue
        for text in map(literal, ast.walk(ast.parse((ROOT / name).read_text()))):
            assert not re.search(r"egopose-engine\[|pip install egopose", text), f"{name}: {text}"
            advised |= set(re.findall(r"nvidia-dali-cuda\d+", text))
            for words in ADVICE.findall(text):
                packages = {word.strip("'") for word in words.split() if not word.startswith("--")} - WORDS
                assert packages - {"_"} or name in COMPUTED or "install --editable ." in text, f"{name}: {text}"
                advised |= packages - {"_"}
    assert {"onnx", "onnxruntime", "pyarrow", "dask[distributed]", "nvidia-dali-cuda130"} <= advised
    assert {re.split(r"[\[<>=]", package)[0] for package in advised} - known == set()


def literal(node):
    """Return a text of the source with an underscore, which no package is named, for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_what_is_installed_here_is_this_project():
    """Else the doctor would look for other packages."""
    assert importlib.metadata.version(software.PROJECT)
