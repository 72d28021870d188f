"""What loaders say of the time of their threads."""

import time

import numpy as np
import pytest

from loaders import AugmentConfig, DataConfig, build_loader
from loaders.stage_times import STAGES
from tests.loaders.test_faults import WAYS
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def shards(request, tmp_path_factory):
    return make_shard_set(
        tmp_path_factory.mktemp("times") / "shards",
        {"train": 16},
        image_format=request.param,
        components=("rgba", "worldp"),
    )


@pytest.mark.parametrize("outputs", [("image",), ("image", "worldp"), ()])
@pytest.mark.parametrize("way", WAYS)
def test_every_thread_tells_all_its_stages_and_no_more_time_than_it_had(shards, way, outputs):
    """Also those of raw images, of other modalities, and of labels alone."""
    config = DataConfig(
        shards=shards, batch_size=4, threads=2, augment=AugmentConfig(rotation=10 if outputs else 0), **WAYS[way]
    )
    began = time.perf_counter()
    loader = build_loader(config, "train", training=True, outputs=outputs)
    for _ in range(2):
        for batch in loader:
            assert len(batch) == 4
    loader.close()
    seconds = time.perf_counter() - began
    work, crews = loader.stage_times.read(), loader.stage_times.crews
    assert work.batches == 8
    assert 0 <= work.late <= 8
    stages = [stage for crew in crews for stage in crew.stages]
    assert len(stages) == len(set(stages))
    assert set(stages) <= set(STAGES)
    told = {stage for stage, spent in work.seconds.items() if spent}
    assert set(stages) <= told
    for crew in crews:
        assert 0 < sum(work.seconds[stage] for stage in crew.stages) <= crew.threads * seconds


def test_batches_are_late_or_ready(shards):
    """A consumer that takes its time finds them ready, but the first one of an epoch."""
    loader = build_loader(DataConfig(shards=shards, batch_size=4, threads=1), "train", training=True)
    for _ in loader:
        time.sleep(0.3)
    loader.close()
    assert loader.stage_times.read().queue_fill >= 0.5


def test_a_cached_batch_is_always_ready(shards):
    loader = build_loader(DataConfig(shards=shards, batch_size=4), "train", training=True, cached_batch=True)
    images = [batch.image for batch in loader]
    loader.close()
    work = loader.stage_times.read()
    assert (len(images), work.batches) == (4, 4)
    assert work.late <= 1  # the thread begins with the epoch
    assert not np.any(list(work.seconds.values()))
