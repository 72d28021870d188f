"""``data.on_bad_sample skip``: what cannot be decoded is skipped and counted, and every rank stays in step."""

import dataclasses

import pytest
import torch

from loaders import AugmentConfig, DataConfig, InputError, ShardSet, build_loader
from loaders.dali.graph import decode_graph
from loaders.dali.pipeline import Pipelines
from loaders.format.manifest import FILE_NAME, Split
from tests.loaders.test_faults import WAYS
from tests.shard_factory import make_shard_set, spoil_images, write_shard

BAD = {5, 6, 17}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = make_shard_set(tmp_path_factory.mktemp("skip") / "shards", {"train": 24, "val": 7}, samples_per_shard=8)
    spoil_images(root, "train", BAD)
    return root


def config(shards, way, **kwargs):
    return DataConfig(shards=shards, on_bad_sample="skip", **{"batch_size": 4, **WAYS[way], **kwargs})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_evaluation_sees_every_other_sample_once(shards, way, batch_size):
    """Batch 2 of size 2 is skipped whole: samples 5 and 6 do not share one, but of size 1 each is one."""
    loader = build_loader(config(shards, way, batch_size=batch_size), "train")
    for _ in range(2):
        found = list(loader)
        assert torch.cat([batch.index for batch in found]).tolist() == [i for i in range(24) if i not in BAD]
        assert all(len(batch) == len(batch.image) == len(batch.joints_3d) > 0 for batch in found)
    assert set(loader.skipped) == BAD
    assert "female_001_a_a-env_001-000006.rgba.jpg" in loader.skipped[5]
    loader.close()


@pytest.mark.parametrize("way", WAYS)
def test_in_training_others_of_the_batch_take_their_places(shards, way):
    augment = AugmentConfig(rotation=30, horizontal_flip=0.5)
    ranks = [
        build_loader(config(shards, way, augment=augment), "train", rank=rank, world_size=2, training=True)
        for rank in range(2)
    ]
    batches = [list(loader) for loader in ranks]
    assert [len(found) for found in batches] == [3, 3]
    assert all(len(batch) == len(batch.image) == 4 for found in batches for batch in found)
    seen = torch.cat([batch.index for found in batches for batch in found]).tolist()
    assert set(seen) == set(range(24)) - BAD
    assert set().union(*(loader.skipped for loader in ranks)) == BAD
    for found in batches:
        for batch in found:
            for index in set(batch.index.tolist()):
                copies = batch.image[batch.index == index]
                assert (copies == copies[0]).all()
    for loader in ranks:
        loader.close()


@pytest.mark.parametrize("way", WAYS)
def test_skipping_does_not_depend_on_where_the_run_was_interrupted(shards, way):
    whole = build_loader(config(shards, way), "train", training=True)
    expected = list(whole)
    whole.close()
    first = build_loader(config(shards, way), "train", training=True)
    iterator = iter(first)
    seen = [next(iterator), next(iterator)]
    state = first.state_dict()
    iterator.close()
    first.close()
    second = build_loader(config(shards, way), "train", training=True)
    second.load_state_dict(state)
    seen += list(second)
    second.close()
    for a, b in zip(seen, expected, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.image, b.image)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_with_nothing_else_in_it_fails(shards, way):
    loader = build_loader(config(shards, way, batch_size=1), "train", training=True)
    with pytest.raises(InputError, match=r"no sample of a batch can be decoded, the first is .*rgba.jpg"):
        list(loader)
    loader.close()


@pytest.mark.parametrize("access", ["random", "sequential"])
def test_a_bad_image_costs_few_pipelines(tmp_path, monkeypatch, access):
    """A JPEG and a PNG, each damaged in its middle, among the 64 samples of a batch."""
    root = make_shard_set(tmp_path / "set", {"train": 64}, components=("rgba", "worldp"), samples_per_shard=64)
    shard_set, samples = ShardSet(root, "train"), []
    for index in range(64):
        members = {name: shard_set.member(index, name).tobytes() for name in shard_set.members}
        for name in {9: ["rgba.jpg"], 40: ["worldp.png"]}.get(index, []):
            half = len(members[name]) // 2
            # a PNG that ends there is found without decoding it
            after = b"" if name == "rgba.jpg" else bytes(20) + members[name][half + 20 :]
            members[name] = members[name][:half] + after
        samples.append((shard_set.key(index), members))
    shard = write_shard(root / "train" / shard_set.shards[0].name, samples)
    manifest = dataclasses.replace(shard_set.manifest, splits={"train": Split((shard,))})
    (root / FILE_NAME).write_text(manifest.to_json())
    loader = build_loader(config(root, "dali", batch_size=64, access=access), "train", outputs=("image", "worldp"))
    built = []
    build = Pipelines.build
    monkeypatch.setattr(
        Pipelines, "build", lambda self, graph, *a, **k: built.append(graph) or build(self, graph, *a, **k)
    )
    (batch,) = loader
    loader.close()
    assert set(loader.skipped) == {9, 40}
    assert len(batch) == 62
    assert sum(graph is decode_graph for graph in built) == 2
    # one that failed and one without the bad samples; a stream also reads the members that are looked at
    assert len(built) == 2 + 2 + (2 if access == "sequential" else 0)
