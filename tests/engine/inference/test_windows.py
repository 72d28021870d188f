"""Networks that see windows of frames, and other stages of users' own, as functions of images."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.infer import load_model, main
from engine.inference.smoothing import Smoother
from engine.inference.windows import FrameWindows
from engine.loaded_model import read_model
from loaders import InputError
from models.xr_egopose import CAMERA, SKELETON
from tests.engine.inference.test_video import read_video, scene, write_video
from tests.engine.window_stage import LENGTH, STRIDE, as_stage, train_window_stage

SEEN = list(SKELETON.heatmap_joints)
CLOSE = {"rtol": 0, "atol": 2e-5}
"""What rounding leaves in predictions.json."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_window_stage(tmp_path_factory.mktemp("windows"))


def run(checkpoint, inputs, output, *more):
    flags = ["--checkpoint", checkpoint, "--input", *inputs, "--output", output, "--device", "cpu", *more]
    return main([str(flag) for flag in flags])


def predicted(output):
    """Return the poses in predictions.json by file, in order."""
    poses = {}
    for entry in json.loads((output / "predictions.json").read_text())["images"]:
        poses.setdefault(entry["file"], []).append(list(entry["joints_3d_m"].values()))
    return {name: np.array(rows) for name, rows in poses.items()}


def by_hand(checkpoint, frames, windows):
    """Return the poses (n, 16, 3) that the network itself says of windows, given as positions of frames."""
    loaded = read_model(checkpoint, torch.device("cpu"))
    model = load_model(checkpoint, device="cpu")
    squares = torch.from_numpy(np.stack([model.preprocess(model.view(frame).cut(frame)) for frame in frames]))
    with torch.no_grad():
        return loaded.model(squares.permute(0, 3, 1, 2)[torch.tensor(windows)]).numpy()


def expected_windows(count):
    """Return the windows of the frames of one recording: `LENGTH` is 3, `STRIDE` is 2."""
    return [[max(0, i - 4), max(0, i - 2), i] for i in range(count)]


def write_images(folder, frames, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(frames):
        assert cv2.imwrite(str(folder / (names[i] if names else f"{i:02}.png")), image[:, :, ::-1])


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=5),
    st.lists(st.integers(0, 6), max_size=12),
)
def test_windows_do_not_depend_on_batches(length, stride, recordings, cuts):
    """Every frame has its place and its sequence written into its one pixel."""
    frames, sequences, expected = [], [], []
    for number, (count, apart) in enumerate(recordings):
        for i in range(count):
            frames.append(np.array([[[number, i, 0]]], np.uint8))
            sequences.append(None if apart else number)
            reached = [i if apart else max(0, i - k * stride) for k in reversed(range(length))]
            expected.append([(number, k) for k in reached])
    windows, found, begin = FrameWindows(length, stride), [], 0
    for size in (*cuts, len(frames)):
        end = begin + size
        held, places = windows.add(frames[begin:end], sequences[begin:end])
        assert len({id(frame) for frame in held}) == len(held) == len(np.unique(places))
        found += [[tuple(held[k][0, 0, :2].tolist()) for k in row] for row in places]
        begin = end
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_videos_frames_are_one_sequence(tmp_path, capsys, trained, batch_size):
    """However they are cut into batches, and whatever comes before and after them."""
    write_video(tmp_path / "in.avi", scene(11), codec="mjpeg")
    write_video(tmp_path / "more.avi", scene(4)[::-1], codec="mjpeg")
    write_images(tmp_path, scene(1), ["a.png"])
    assert run(trained, [tmp_path], tmp_path / "out", "--batch-size", batch_size, "--precision", "fp32") == 0
    poses = predicted(tmp_path / "out")
    assert list(poses) == ["a.png", "in.avi", "more.avi"]
    for name in ("in.avi", "more.avi"):
        frames, _ = read_video(tmp_path / name)
        expected = by_hand(trained, frames, expected_windows(len(frames)))
        np.testing.assert_allclose(poses[name], expected, **CLOSE)
        alone = by_hand(trained, frames, [[i] * LENGTH for i in range(len(frames))])
        assert np.abs(expected - alone)[1:].max((1, 2)).min() > 0.01  # the frames before do matter
    assert "by itself" not in capsys.readouterr().err  # one image has no neighbors
    drawn, _ = read_video(tmp_path / "out/images/in.avi.mp4")
    assert len(drawn) == 11


@pytest.mark.slow
def test_without_heatmaps_the_poses_of_windows_are_smoothed(tmp_path, trained):
    write_video(tmp_path / "clip.mkv", scene(9))
    frames, times = read_video(tmp_path / "clip.mkv")
    more = ("--precision", "fp32", "--no-images", "--smooth", "1", "--batch-size", "4")
    assert run(trained, [tmp_path / "clip.mkv"], tmp_path / "out", *more) == 0
    found = by_hand(trained, frames, expected_windows(9))
    expected = Smoother(1.0)([found], ["clip"] * 9, times)[0]
    np.testing.assert_allclose(predicted(tmp_path / "out")["clip.mkv"], expected, **CLOSE)
    assert np.abs(expected - found).max() > 10 * CLOSE["atol"]


@pytest.mark.slow
def test_image_files_are_a_sequence_if_that_is_said(tmp_path, capsys, trained):
    frames = scene(9)
    write_images(tmp_path / "in", frames[:6])
    write_images(tmp_path / "in" / "more", frames[6:], ["03.png", "02.png", "04.png"])
    (tmp_path / "in" / "01b.png").write_text("no image")
    inputs = [tmp_path / "in/05.png", tmp_path / "in/**/*.png"]
    assert run(trained, inputs, tmp_path / "apart", "--precision", "fp32", "--no-images") == 1
    hint = "the network sees windows of 3 frames, and each image is by itself: --sequence"
    assert capsys.readouterr().err.count(hint) == 1
    poses = predicted(tmp_path / "apart")
    assert list(poses) == ["05.png", "00.png", "01.png", "02.png", "03.png", "04.png"] + [
        f"more/{name}.png" for name in ("02", "03", "04")
    ]
    place = {"more/02.png": 7, "more/03.png": 6, "more/04.png": 8}
    order = [place.get(name, int(name[-6:-4])) for name in poses]
    expected = by_hand(trained, frames, [[i] * LENGTH for i in order])
    np.testing.assert_allclose(np.concatenate([*poses.values()]), expected, **CLOSE)

    for size in (1, 3, 32):
        more = ("--sequence", "--batch-size", size, "--precision", "fp32", "--no-images")
        assert run(trained, inputs, tmp_path / f"joined{size}", *more) == 1
        assert hint not in capsys.readouterr().err
        poses = predicted(tmp_path / f"joined{size}")
        assert list(poses) == [f"{i:02}.png" for i in range(6)] + [f"more/{name}.png" for name in ("02", "03", "04")]
        windows = [*expected_windows(6), [7, 7, 7], [7, 7, 6], [7, 7, 8]]
        expected = by_hand(trained, frames, windows)
        np.testing.assert_allclose(np.concatenate([*poses.values()]), expected, **CLOSE)


@pytest.mark.slow
def test_programs_give_consecutive_frames(trained):
    model = load_model(trained, device="cpu", precision="fp32")
    assert (model.window, model.stride) == (LENGTH, STRIDE)
    frames = scene(7)
    expected = by_hand(trained, frames, expected_windows(7))
    np.testing.assert_allclose(model(frames).joints_3d, expected, atol=1e-5)
    np.testing.assert_allclose(model(frames).joints_3d, expected, atol=1e-5)  # a call knows nothing of another
    np.testing.assert_allclose(model(frames[3:4]).joints_3d, by_hand(trained, frames, [[3, 3, 3]]), atol=1e-5)
    assert len(model([])) == 0


@pytest.mark.slow
def test_without_heatmaps_joints_are_the_projection(tmp_path, trained):
    frame = scene(1, 1280, 800)[0]
    depths = load_model(trained, device="cpu")([frame]).joints_3d_camera[0, :, 2]
    content = torch.load(trained, weights_only=True)
    x, y, z = content["head"]["mean"]
    content["head"]["mean"] = (x, y, z - float(np.median(depths)))  # half of the joints are behind the camera
    trained = tmp_path / "placed.pt"
    torch.save(content, trained)
    poses = load_model(trained, device="cpu")([frame])
    shown = poses.joints_3d_camera[0, SEEN]
    in_lens = shown[:, 2] >= 0
    projected = CAMERA.project(shown)
    np.testing.assert_allclose(poses.joints_2d[0][in_lens], projected[in_lens], atol=0.01)
    assert np.isnan(poses.joints_2d[0][~in_lens]).all()
    assert 0 < in_lens.sum() < len(SEEN)
    for values in (poses.confidence, poses.distance):
        assert np.isnan(values).all()
        assert values.shape == (1, 15)

    write_images(tmp_path / "in", [frame])
    assert run(trained, [tmp_path / "in"], tmp_path / "out") == 0
    (entry,) = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert {*entry["confidence"].values(), *entry["projection_distance_px"].values()} == {None}
    assert [value is None for value in entry["joints_2d_px"].values()] == [*~in_lens]
    drawn = cv2.imread(str(tmp_path / "out/images/00.png"))[:, :, ::-1]
    assert (drawn != frame).any()


@pytest.mark.slow
def test_without_heatmaps_and_the_heads_place_nothing_is_drawn(tmp_path, trained):
    content = torch.load(trained, weights_only=True)
    torch.save(content | {"head": None}, tmp_path / "last.pt")
    poses = load_model(tmp_path / "last.pt", device="cpu")(scene(2))
    assert np.isnan(poses.joints_2d).all()
    assert poses.joints_2d.shape == (2, 15, 2)
    assert poses.distance is None
    write_images(tmp_path / "in", scene(1))
    assert run(tmp_path / "last.pt", [tmp_path / "in"], tmp_path / "out") == 0
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/images/00.png"))[:, :, ::-1], scene(1)[0])


@pytest.mark.slow
def test_a_stage_of_ones_own_sees_single_frames(tmp_path, capsys, trained):
    single = as_stage(trained, "Singles", tmp_path / "single.pt")
    write_images(tmp_path / "in", scene(5))
    assert run(single, [tmp_path / "in"], tmp_path / "out", "--precision", "fp32") == 0
    assert "by itself" not in capsys.readouterr().err
    expected = by_hand(trained, scene(5), [[i] for i in range(5)])
    np.testing.assert_allclose(np.concatenate([*predicted(tmp_path / "out").values()]), expected, **CLOSE)
    assert run(single, [tmp_path / "in"], tmp_path / "no", "--sequence") == 2
    assert (
        f"--sequence is for networks that see windows, {single} sees single frames: drop it" in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Peeking", r"own\.py:Peeking uses labels to predict, or is not finite"),
        ("Silent", r"own\.py:Silent checkpoint, not the whole way from an image to its pose: give"),
        ("WithDepth", r"own\.py:WithDepth checkpoint, which takes depth and rot beside images: give"),
    ],
)
def test_stages_that_cannot_be_used_are_refused_in_one_line(tmp_path, capsys, trained, name, said):
    path = as_stage(trained, name, tmp_path / "other.pt")
    write_images(tmp_path / "in", scene(2))
    capsys.readouterr()
    assert run(path, [tmp_path / "in"], tmp_path / "out") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line or "error" in line]
    assert re.search(f"infer: error: .*{said}", error)
    assert not (tmp_path / "out" / "predictions.json").exists()
    with pytest.raises(InputError, match=said):
        load_model(path, device="cpu")(scene(2))
