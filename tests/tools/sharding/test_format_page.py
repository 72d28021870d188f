"""docs/shard-format.md says all that another reader needs: its own code reads what tools.shard wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loaders.format.manifest import FILE_NAME
from loaders.format.shard_set import ShardSet
from tests.other_datasets import BODY, FRAMES
from tests.shard_factory import make_shard_set
from tests.tools.shard_runs import ROOT, make
from tests.tools.tiny_dataset import make_dataset

PAGE = (ROOT / "docs/shard-format.md").read_text()


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page's blocks of Python define."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    defined: dict[str, Any] = {}
    exec("\n".join(blocks), defined)
    return defined


@pytest.mark.parametrize("split", ["train", "test"])
def test_its_reader_reads_what_ours_reads(page: dict[str, Any], shards: Path, split: str) -> None:
    ours = ShardSet(shards, split)
    pose, meta = ours.labels()
    read = list(page["read_split"](shards, split))
    assert len(read) == len(ours) == 10
    for index, sample in enumerate(read):
        assert sample["key"] == ours.key(index)
        np.testing.assert_array_equal(sample["joints_2d"], pose[index, :, :2])
        np.testing.assert_array_equal(sample["joints_3d"], pose[index, :, 2:])
        assert sample["visible"].tolist() == list(ours.member(index, "visible.npy")[-16:])
        subject, environment, frame, action = meta[index].tolist()
        assert sample["frame"] == frame
        for name, number in (("subject", subject), ("environment", environment), ("action", action)):
            assert sample[name] == getattr(ours.manifest, f"{name}s")[number]
        assert list(sample["members"]) == list(ours.members)
        assert all(sample["members"][name] == ours.member(index, name).tobytes() for name in ours.members)


def test_its_hash_gives_the_order(page: dict[str, Any], shards: Path) -> None:
    frames = [(environment, frame) for environment in ("env 02", "env_001") for frame in range(1, 6)]
    for split, number in (("train", -1), ("test", -3)):
        order = sorted(range(len(frames)), key=lambda i, number=number: page["position_hash"](0, number, i))  # type: ignore[misc]
        read = [(sample["environment"], sample["frame"]) for sample in page["read_split"](shards, split)]
        assert read == [frames[i] for i in order]


def test_it_names_every_key_of_a_manifest_and_no_other(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", 3)
    dataset.file("rgba", 2).unlink()
    assert make(dataset.root, tmp_path / "shards") == 0
    manifests = [tmp_path / "shards" / FILE_NAME]
    for word, frame in FRAMES.items():
        manifests.append(make_shard_set(tmp_path / word, {"train": 1}, frame=frame, skeleton=BODY) / FILE_NAME)
    keys = {key for manifest in manifests for key in keys_in(json.loads(manifest.read_text()))}
    # the camera of the frames has the keys of the other one, and groups have names of their own
    keys = {key for key in keys if not key.startswith(("preprocessing.frame.", "action_groups."))}
    table = PAGE.partition("\n## Manifest\n")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)}
    assert named <= keys
    assert {key for key in keys if not any(other.startswith((f"{key}.", f"{key}[")) for other in keys)} <= named


def keys_in(value: Any, path: str = "") -> Iterator[str]:
    """Yield every key as the page writes it; splits are all alike."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            split = "train" if path == "splits" else name
            yield from keys_in(item, f"{path}.{split}" if path else split)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from keys_in(item, f"{path}[]")
