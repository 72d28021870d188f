"""Shards that are mapped need no open file each; a stream raises the limit, or says that it is too low."""

import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loaders.system.open_files import map_file
from tests.shard_factory import make_shard_set
from tests.tools.shard_runs import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import os, resource, sys
from pathlib import Path
from loaders import DataConfig, InputError, build_loader
shards, access, backend, soft, hard = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
config = DataConfig(shards=Path(shards), access=access, backend=backend, batch_size=7)
try:
    training, validation = build_loader(config, "train", training=True), build_loader(config, "val")
    batches = iter(training)
    seen = len(next(batches)) + sum(map(len, validation)) + sum(map(len, batches))
    sys.stdout.write(f"{seen} samples")
except InputError as error:
    sys.stdout.write(f"InputError: {error}")
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shard_set(
        tmp_path_factory.mktemp("open") / "set", {"train": 61, "val": 60}, image_size=32, samples_per_shard=1
    )


def load(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("backend", ["torch", "dali"])
def test_mapped_shards_keep_no_file_open(shards, backend):
    done = load(shards, "random", backend, 40, 40)
    assert done.stdout == "116 samples", done.stderr


def test_a_stream_raises_the_limit_for_each_shard_once(shards):
    """Also where a batch that is filled up to the reader's size reaches over many shards."""
    done = load(shards, "sequential", "auto", 40, 180)
    assert done.stdout == "116 samples", done.stderr


def test_a_stream_says_what_it_needs_before_the_first_step(shards):
    """Training and validation are open at the same time: either alone would fit."""
    done = load(shards, "sequential", "auto", 40, 130)
    assert done.stdout.startswith(f"InputError: {shards}/val: a stream keeps all its shards open; "), done.stderr
    assert " open files are needed and 130 allowed: raise the limit by `ulimit -n " in done.stdout
    assert "data.access random" in done.stdout


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_a_mapping_lasts_as_long_as_what_shows_it(tmp_path):
    path = tmp_path / "file"
    content = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
    path.write_bytes(content)
    before = open_files()
    data = map_file(path)
    assert open_files() == before
    np.testing.assert_array_equal(data, content)
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1
    part = data[5:9]
    del data
    gc.collect()
    assert mapped(path)
    np.testing.assert_array_equal(part, content[5:9])
    del part
    gc.collect()
    assert not mapped(path)


def test_what_cannot_be_mapped_is_named(tmp_path):
    (tmp_path / "empty").touch()
    for name in ("none", "empty", "."):
        with pytest.raises(OSError, match=re.escape(f"'{tmp_path / name}'")):
            map_file(tmp_path / name)
