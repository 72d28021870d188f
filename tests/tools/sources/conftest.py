from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.own_files import write_own
from tests.tools.sources.own_data import OWN, write_frames


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("own") / "frames")


@pytest.fixture
def own(tmp_path: Path) -> str:
    """How ``--source`` names the class that reads them."""
    return f"{write_own(tmp_path, OWN)}:Own"
