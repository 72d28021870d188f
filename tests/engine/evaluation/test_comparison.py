"""Two networks, frame by frame."""

import dataclasses

import numpy as np
import pytest

from engine.evaluation.comparison import OtherFrames, compare
from engine.evaluation.metrics import FrameErrors
from engine.evaluation.per_frame import find_table
from loaders.errors import InputError
from models.xr_egopose import SKELETON

KEYS = [f"female_001_a_a-env_00{recording}-{frame:06d}" for recording in range(12) for frame in range(30)]


@pytest.fixture
def errors():
    """Frames of very different difficulty."""
    random = np.random.default_rng(0)
    values = random.uniform(20, 200, len(KEYS))
    groups = tuple("Gaming" if frame % 3 else "Walking" for frame in range(len(KEYS)))
    return FrameErrors(
        groups,
        ("Gaming", "Walking"),
        SKELETON,
        np.repeat(np.arange(12), 30),
        {"mpjpe_mm": values},
        pose=values[:, None],
    )


def write_table(path, keys, values, title="mpjpe_mm"):
    rows = [f"{key},x,{value}" for key, value in zip(keys, values, strict=True)]
    path.write_text("\n".join([f"key,subject,{title}", *rows]) + "\n")
    return path


def test_a_small_difference_is_seen_through_a_large_spread(tmp_path, errors):
    ours = errors.metrics["mpjpe_mm"]
    noise = np.random.default_rng(1).normal(0, 2, len(KEYS))
    shuffled = np.random.default_rng(2).permutation(len(KEYS))
    theirs = (ours + 1 + noise)[shuffled]
    table = write_table(tmp_path / "per_frame.csv", [KEYS[i] for i in shuffled], theirs)
    found = compare(errors, KEYS, OtherFrames.read(table, KEYS))
    assert (found["frames"], found["frames_only_here"], found["frames_only_there"]) == (360, 0, 0)
    assert found["recordings"] == 12
    difference, (low, high) = found["difference"]["mpjpe_mm"], found["ci95"]["mpjpe_mm"]["All"]
    assert difference["All"] == pytest.approx(-1 - noise.mean())
    walking = [frame % 3 == 0 for frame in range(len(KEYS))]
    assert difference["Walking"] == pytest.approx(-1 - noise[walking].mean())
    assert low < difference["All"] < high < 0


def test_frames_that_one_has_alone_are_left_out_and_counted(tmp_path, errors):
    table = write_table(
        tmp_path / "per_frame.csv", [*KEYS[10:], "b", "c", "d"], [*errors.metrics["mpjpe_mm"][10:], 1, 2, 3]
    )
    found = compare(errors, KEYS, OtherFrames.read(table, KEYS))
    assert (found["frames"], found["frames_only_here"], found["frames_only_there"]) == (350, 10, 3)
    assert found["difference"]["mpjpe_mm"]["All"] == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_compared_is_one_line(tmp_path, errors):
    def refused(path, match):
        with pytest.raises(InputError, match=match):
            OtherFrames.read(path, KEYS)

    metrics = tmp_path / "metrics.json"
    metrics.write_text("{}")
    for path in (metrics, tmp_path, tmp_path / "absent.csv"):
        refused(path, "has none beside or in it: evaluate that checkpoint with --per-frame csv")
    refused(write_table(tmp_path / "a.csv", ["x", "y"], [1, 2]), "no frame in common: evaluate both")
    refused(write_table(tmp_path / "b.csv", KEYS[:1], [1], "something"), "has none of the columns mpjpe_mm")
    refused(write_table(tmp_path / "c.csv", [KEYS[0]] * 2, [1, 2]), "has frames twice")
    refused(write_table(tmp_path / "d.csv", KEYS[:1], ["many"]), "is damaged")
    for name, content, match in (
        ("e.csv", b"", "no column key"),
        ("f.csv", b"key,mpjpe_mm\na\n", "line 2 has 1 fields, not 2"),
        ("g.csv", b"key,mpjpe_mm\n\xff,1\n", "is damaged"),
        ("h.parquet", b"not this", "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, match)
    only_2d = dataclasses.replace(errors, metrics={"error_2d_frame_px": errors.metrics["mpjpe_mm"]})
    other = OtherFrames.read(write_table(tmp_path / "i.csv", KEYS[:1], [1]), KEYS)
    with pytest.raises(InputError, match="no metric in common"):
        compare(only_2d, KEYS, other)


def test_the_table_beside_metrics_json_is_found(tmp_path):
    table = write_table(tmp_path / "per_frame.csv", [], [])
    assert find_table(tmp_path) == find_table(tmp_path / "metrics.json") == find_table(table) == table
