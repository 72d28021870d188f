"""What is imported is declared in setup.py, and what is declared is used."""

import ast
import functools
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
OWN = {"benchmarks", "engine", "loaders", "models", "tests", "tools"}

UNDECLARED = {
    "apex": "built from source; engine.optimizer says how",
    "ffcv": "built from source; benchmarks/README.md says how",
    **dict.fromkeys(
        ("datago", "grain", "litdata", "spdl", "streaming", "torchcodec"),
        "for a row of benchmarks.loader; benchmarks/README.md says how",
    ),
    "trackio": "wants a pillow older than constraints.txt has; docs/tracking.md says how",
    "triton": "comes with torch for Linux; without it models.fused_norm takes torch's own operators",
    "_typeshed": "mypy's, never imported when a program runs",
}
"""Imported if they are there; why setup.py does not name them."""

USED_OTHERWISE = {
    "alembic": ("docs/tracking.md", "sqlite:///"),  # MLflow's own requirement of a database
    "import-linter": ("Makefile", "lint-imports"),
    "ipykernel": ("examples/load_shards.ipynb", '"kernelspec"'),
    "mkdocs-material": ("mkdocs.yml", "name: material"),
    "mkdocstrings-python": ("mkdocs.yml", "mkdocstrings:"),
    "mypy": ("Makefile", "bin/mypy"),
    "nvidia-dali-cuda120": ("setup.py", "nvidia-dali-cuda130"),  # the same modules
    "onnxscript": ("tools/export.py", '"onnxscript"'),  # what torch exports with
    "pytest-timeout": ("pyproject.toml", "timeout ="),
    "pytest-xdist": ("Makefile", "--numprocesses"),
    "ruff": ("Makefile", "bin/ruff"),
    "setuptools": ("tests/test_packaging.py", "--no-build-isolation"),
    "sqlalchemy": ("docs/tracking.md", "sqlite:///"),
    "types-pyyaml": ("engine/cli/yaml_file.py", "from yaml import"),
    "types-tqdm": ("engine/cli/progress.py", "from tqdm import"),
}
"""Distributions that no file of ours imports, and where each is used."""


@functools.cache
def imported() -> set[tuple[str, str]]:
    """Return the first name of each import that is neither the standard library's nor ours, and who imports it."""
    found = set()
    for package in OWN:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    modules = [str(node.module)]
                names = {module.split(".")[0] for module in modules} - OWN - sys.stdlib_module_names
                found |= {(name, str(path.relative_to(ROOT))) for name in names}
    return found


@functools.cache
def declared() -> tuple[Requirement, ...]:
    """Return the requirements of setup.py and of its extras."""
    setup = next(
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    lists = {keyword.arg: keyword.value for keyword in setup.keywords}
    groups = ast.literal_eval(lists["install_requires"]), *ast.literal_eval(lists["extras_require"]).values()
    return tuple(Requirement(text) for group in groups for text in group)


def declared_names() -> set[str]:
    """Return the distributions that setup.py names."""
    return {canonicalize_name(requirement.name) for requirement in declared()}


def of_extras() -> dict[str, str]:
    """Return the distributions that an extra in brackets stands for -> whose extra it is: dask[distributed]."""
    return {
        canonicalize_name(wanted.name): canonicalize_name(requirement.name)
        for requirement in declared()
        for extra in requirement.extras
        for wanted in map(Requirement, importlib.metadata.requires(requirement.name) or ())
        if wanted.marker and wanted.marker.evaluate({"extra": extra})
    }


@functools.cache
def distributions() -> dict[str, set[str]]:
    """Return import name -> distributions that install it: several for a namespace such as nvidia."""
    found = importlib.metadata.packages_distributions()
    return {name: set(map(canonicalize_name, owners)) for name, owners in found.items()}


def test_every_import_is_declared():
    names = declared_names() | set(of_extras())
    missing = {
        f"{name} in {path}"
        for name, path in imported()
        if name not in UNDECLARED and not distributions().get(name, set()) & names
    }
    assert not missing


def test_every_declared_distribution_is_used():
    used = set().union(*(distributions().get(name, set()) for name, _ in imported()))
    used |= {of_extras()[name] for name in used & set(of_extras())}
    assert declared_names() - used == set(USED_OTHERWISE)


@pytest.mark.parametrize("name", USED_OTHERWISE)
def test_what_is_not_imported_is_used_where_the_table_says(name):
    path, text = USED_OTHERWISE[name]
    assert text in (ROOT / path).read_text()


def test_exceptions_are_still_imported():
    assert {name for name, _ in imported()} >= set(UNDECLARED)


def test_every_declared_distribution_has_a_tested_version():
    # beside the one for CUDA 13 it cannot be installed
    assert declared_names() - pinned("constraints.txt").keys() == {"nvidia-dali-cuda120"}


def pinned(name):
    """Return the version of each distribution that a file of constraints names."""
    lines = re.findall(r"^([\w.-]+)==(.+)$", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(distribution): Version(version) for distribution, version in lines}


def test_the_oldest_torch_that_is_taken_is_tested():
    """Its own constraints replace some of the others', and the README names both."""
    (oldest,) = (str(one.specifier).removeprefix(">=") for one in declared() if one.name == "torch")
    old, new = pinned(f"constraints-torch{oldest}.txt"), pinned("constraints.txt")
    assert old["torch"].release[:2] == Version(oldest).release
    assert all(version < new[name] for name, version in old.items())
    tested = [f"{old[name]} and {new[name]}" for name in ("torch", "torchvision")]
    row = f"| PyTorch | {tested[0]}, torchvision {tested[1]} | {oldest} or newer |"
    assert row in (ROOT / "README.md").read_text().splitlines()
