from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loaders.format.index import read_index
from loaders.format.manifest import Manifest
from loaders.format.shard_set import ShardSet


def test_webdataset_reads_the_shards(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    split = ShardSet(shards, "train")
    urls = [str(shards / "train" / entry.name) for entry in split.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [split.key(index) for index in range(len(split))]
    for index, sample in enumerate(samples):
        for member in split.members:
            assert sample[member] == split.member(index, member).tobytes()


def test_dali_reads_the_shards_through_their_indices(shards: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def

    split = ShardSet(shards, "test")
    tars = [str(shards / "test" / entry.name) for entry in split.shards]
    extensions = list(split.members)

    @pipeline_def(batch_size=len(split), num_threads=1, device_id=None)  # type: ignore[misc, unused-ignore]
    def read() -> Any:
        return tuple(
            fn.readers.webdataset(paths=tars, index_paths=[tar.replace(".tar", ".idx") for tar in tars], ext=extensions)
        )

    pipe = read()
    pipe.build()
    batches = pipe.run()
    for extension, batch in zip(extensions, batches, strict=True):
        for index in range(len(split)):
            assert np.asarray(batch[index]).tobytes() == split.member(index, extension).tobytes()


def test_the_index_is_what_wds2idx_writes(shards: Path, tmp_path: Path) -> None:
    wds2idx = pytest.importorskip("wds2idx")
    for entry in Manifest.read(shards).splits["train"].shards:
        tar = shards / "train" / entry.name
        with wds2idx.IndexCreator(str(tar), str(tmp_path / "idx"), verbose=False) as creator:
            creator.create_index()
        assert (tmp_path / "idx").read_text() == tar.with_suffix(".idx").read_text()
        index = read_index(tar.with_suffix(".idx"), entry)
        assert len(index.members) == 6
        assert index.spans.shape == (entry.samples, 6, 2)
