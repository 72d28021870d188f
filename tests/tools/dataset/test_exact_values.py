"""Depth and objects: kinds of PNG whose values are kept, and those that no decoder would keep."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from loaders.codecs import decode_exact
from loaders.preprocessing import Preprocessing
from models.xr_egopose import CAMERA
from tests.tools.shard_runs import make, skipped
from tests.tools.tiny_dataset import make_dataset
from tools import validate
from tools.sources.images import encode_exact

COMPONENTS = ("--components", "json", "depth", "rot")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_bits_and_values_stay(channels: int, bits: int) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 2**bits, (800, 1280, channels)).astype(f"uint{bits}")
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    content = cv2.imencode(".png", values[..., order])[1].tobytes()
    stored = encode_exact("objectId", content, Preprocessing.of("png", "square", 800, 95, CAMERA))
    found = decode_exact(np.frombuffer(stored, np.uint8))
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[:, 240:1040])


def test_other_kinds_and_a_missing_depth_are_defects_and_missing_rotations_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(tmp_path / "data", 5, subjects=[("train", "female_001_a_a")])
    gray = PIL.Image.fromarray(np.zeros((800, 1280), np.uint8))
    gray.quantize(4).save(data.file("depth", 1))
    gray.convert("LA").save(data.file("depth", 2))
    data.file("depth", 3).unlink()
    data.file("rot", 4).unlink()
    data.file("rot", 5).write_bytes(b"")
    assert make(data.root, tmp_path / "set", *COMPONENTS) == 0
    reasons = skipped(tmp_path / "set")
    assert reasons[("env_001", 3)] == "no depth file"
    assert reasons[("env_001", 5)] == "rot file is empty"
    for frame, kind in ((1, 3), (2, 4)):
        assert f"color type {kind}, neither gray nor RGB nor RGBA" in reasons[("env_001", frame)]
    assert len(reasons) == 4
    capsys.readouterr()
    assert validate.main(["--dataset", str(data.root)]) == 1
    said = capsys.readouterr().out
    assert "color type 3, neither gray nor RGB nor RGBA" in said
    assert "color type 4, neither gray nor RGB nor RGBA" in said
