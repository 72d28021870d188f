"""The public workflow checks what the project's own script checks, on versions of Python and torch that we support."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
JOB = WORKFLOW["jobs"]["test"]
MATRIX = JOB["strategy"]["matrix"]["include"]


def test_the_workflow_runs_what_the_script_runs():
    script = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    steps = [step["run"] for step in JOB["steps"] if "run" in step]
    assert script and set(script) <= set(steps)


def test_the_workflow_begins_with_the_oldest_python_that_is_supported():
    oldest = re.search(r'python_requires=">=([\d.]+)"', (ROOT / "setup.py").read_text()).group(1)
    pythons = [one["python"] for one in MATRIX]
    assert pythons[0] == oldest
    assert pythons == sorted(pythons, key=lambda version: [int(part) for part in version.split(".")])


def test_the_workflow_tests_every_torch_that_has_constraints():
    releases = [path.stem.removeprefix("constraints-torch") for path in ROOT.glob("constraints-torch*.txt")]
    assert releases and [one["torch"] for one in MATRIX if "torch" in one] == releases
    assert JOB["env"] == {"TORCH": "${{ matrix.torch }}"}


def test_the_workflow_may_only_read_and_takes_pinned_actions():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    actions = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert actions and all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
