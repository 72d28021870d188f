from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.tools.downloading.release_server import ReleaseServer, serving


@pytest.fixture
def release() -> Iterator[ReleaseServer]:
    with serving() as server:
        yield server


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(6).bytes(3_000_000)
