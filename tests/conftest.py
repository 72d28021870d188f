"""Two test processes share the cores: one thread each, or a library that spins while waiting starves the other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
# where these are set pytest writes out the whole difference: of two files that are not the same, minutes without a word
os.environ["CI"] = os.environ["BUILD_NUMBER"] = ""

import hypothesis
import pytest
import torch

from loaders.system.cores import available_cores
from tests.browser import browser  # noqa: F401 - a fixture

torch.set_num_threads(1)

# how long an example takes says something about the machine, not about the code
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


SLOW_FIXTURES = {"world"}
"""What uses one of them, a network that is trained first, is marked slow."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by its fixtures, before marks choose among the tests."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return what `--numprocesses auto` means: xdist itself knows no quotas."""
    return available_cores()
