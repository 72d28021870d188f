"""A shard set, predictions for it, and their report."""

import pytest

from loaders import ShardSet
from tests.engine.report.reports import predictions_of, write
from tests.shard_factory import make_shard_set


@pytest.fixture(scope="package")
def shards(tmp_path_factory):
    actions = ("Dribble", "<script>alert(1)</script>")
    return make_shard_set(tmp_path_factory.mktemp("report"), {"train": 4, "test": 9}, image_size=128, actions=actions)


@pytest.fixture(scope="package")
def predictions(shards):
    return predictions_of(ShardSet(shards, "test"))


@pytest.fixture(scope="package")
def report(tmp_path_factory, shards, predictions):
    return write(tmp_path_factory.mktemp("page"), shards, predictions)[0]
