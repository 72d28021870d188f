"""Smoothed poses: the filter itself, motion that it is held against, and what a user gets."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from engine.infer import load_model, main
from engine.inference.smoothing import MIN_CUTOFF, OneEuro, Smoother
from engine.inference.stream import PoseStream
from loaders import InputError
from models.camera import IN_IMAGE
from models.xr_egopose import CAMERA, HEAD, JOINTS, SKELETON
from tests.checkpoint_factory import make_checkpoint
from tests.engine.inference.test_video import read_video, scene, write_video
from tests.engine.inference.test_windows import write_images
from tools.dataset.layout import SUBJECTS
from tools.synthesis.body import INDEX
from tools.synthesis.frame_generator import FrameGenerator

RATE, CLIP, CLIPS = 30, 120, 6
"""Frames per second, frames of a clip, clips of each subject."""
HEAD_PLACE = {"mean": (-0.007, -0.187, 0.047), "spread": (0.0, 0.0, 0.0)}


def filtered(positions, times, **settings):
    smooth = OneEuro(**{"min_cutoff": 1.0, "beta": 0.0} | settings)
    return np.array([smooth(*pair) for pair in zip(positions, times, strict=True)])


def test_a_joint_that_rests_follows_by_its_time_constant():
    """What is left of a step after k frames is (1 + dt / tau)^-k, whatever the steps of time between them add up to."""
    step, tau = 0.02, 1 / (2 * np.pi)
    given = np.ones((40, 2, 3))
    given[0] = 0
    said = filtered(given, step * np.arange(40))
    expected = 1 - (1 + step / tau) ** -np.arange(40.0)
    np.testing.assert_allclose(said, np.broadcast_to(expected[:, None, None], said.shape), atol=1e-12)
    coarse = filtered(given[[0, 1]], [0, 0.5])[1]
    np.testing.assert_allclose(coarse, 1 - 1 / (1 + 0.5 / tau))


def test_what_is_fast_lags_less():
    """A joint at speed v lags until each step makes good its own way: v dt = share x gap, with its own cut-off."""
    step, speed, beta = 1 / 30, 2.0, 3.0
    ramp = (speed * step * np.arange(400))[:, None, None] * [[[0.6, 0.0, 0.8]]]
    for b in (0.0, beta):
        gap = np.linalg.norm(filtered(ramp, step * np.arange(400), beta=b)[-2] - ramp[-1])
        found = gap / step  # the speed that the filter sees, from where it was to where the joint is
        ratio = 2 * np.pi * (1 + b * found) * step
        assert gap * ratio / (1 + ratio) == pytest.approx(speed * step, rel=1e-3)
    still = np.linalg.norm(filtered(ramp, step * np.arange(400))[-1] - ramp[-1])
    fast = np.linalg.norm(filtered(ramp, step * np.arange(400), beta=beta)[-1] - ramp[-1])
    assert fast < still / 5


def test_rotated_poses_are_smoothed_alike():
    random = np.random.default_rng(0)
    poses, times = random.normal(size=(30, 16, 3)), np.cumsum(random.uniform(0.01, 0.1, 30))
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    said = filtered(poses @ rotation, times, beta=2.0)
    np.testing.assert_allclose(said, filtered(poses, times, beta=2.0) @ rotation, atol=1e-12)


def test_missing_joints_and_times_that_go_back_begin_anew():
    random = np.random.default_rng(0)
    poses, times = random.normal(size=(12, 2, 3)), np.arange(12) / RATE
    poses[5, 1, 2] = np.nan
    said = filtered(poses, times)
    np.testing.assert_array_equal(said[5, 1], poses[5, 1])
    np.testing.assert_array_equal(said[6:, 1], filtered(poses[6:], times[6:])[:, 1])
    assert np.isfinite(said[:, 0]).all()
    np.testing.assert_array_equal(said[:, 0], filtered(np.nan_to_num(poses), times)[:, 0])  # each for itself
    back = filtered(np.nan_to_num(poses), [*times[:7], *times[3:8]])
    np.testing.assert_array_equal(back[7:], filtered(np.nan_to_num(poses[7:]), times[3:8]))


def test_each_sequence_is_by_itself():
    random = np.random.default_rng(0)
    poses, peaks = random.normal(size=(9, 16, 3)), random.normal(size=(9, 15, 2))
    times = [*np.arange(4) / RATE, *np.arange(3) / RATE, 0, 0]
    sequences = ["a"] * 4 + ["b"] * 3 + [None] * 2
    whole = Smoother(1.0)([poses, peaks], sequences, times)
    for part in (slice(0, 4), slice(4, 7)):
        alone = Smoother(1.0)([poses[part], peaks[part]], sequences[part], times[part])
        for said, expected in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(said[part], expected)
        assert np.abs(whole[0][part] - poses[part]).max() > 0.1
    np.testing.assert_array_equal(whole[0][7:], poses[7:])
    parts, smoother = [], Smoother(1.0)  # as batches, without heatmaps
    for part in (slice(0, 3), slice(3, 6), slice(6, 9)):
        parts.append(smoother([poses[part]], sequences[part], times[part])[0])
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])


def motion(subject):
    """Return true poses (clips, frames, 16, 3), metres relative to Neck, of a generated subject."""
    frames = FrameGenerator(subject, 1, 36 * CLIP, 0).frames(1, CLIPS * CLIP)
    joints = [INDEX[name] for name in JOINTS]
    poses = np.array([np.array(frame.labels["pts3d_fisheye"]).T[joints] / 100 for frame in frames])
    return (poses - poses[:, :1]).reshape(CLIPS, CLIP, 16, 3)


def network_like(true, random, *, fast=0.012, slow=0.025, seconds=1.0):
    """Add errors to a clip: of each frame by itself, and such as last about a second (metres, standard deviations)."""
    keep = np.exp(-1 / (RATE * seconds))
    lasting = np.empty_like(true)
    lasting[0] = random.normal(size=true.shape[1:])
    for i in range(1, len(true)):
        lasting[i] = keep * lasting[i - 1] + np.sqrt(1 - keep**2) * random.normal(size=true.shape[1:])
    errors = fast * random.normal(size=true.shape) + slow * lasting
    errors[:, 0] = 0  # the root is where it is
    return true + errors


def mpjpe(poses, true):
    """Return the mean error (mm)."""
    return 1000 * np.linalg.norm(poses - true, axis=-1).mean()


def jitter(poses):
    """Return the mean third difference (mm/frame^3)."""
    return 1000 * np.linalg.norm(np.diff(poses, 3, axis=-3), axis=-1).mean()


@pytest.mark.slow
def test_the_table_of_the_documents():
    """Subjects that the settings were not chosen on; true motion with errors like a network's."""
    random = np.random.default_rng(1)
    true = np.concatenate([motion(subject) for subject in (*SUBJECTS["test"][:2], *SUBJECTS["val"][:2])])
    given = np.array([network_like(clip, random) for clip in true])
    times = np.arange(CLIP) / RATE
    measured = {"0": (mpjpe(given, true), jitter(given)), "truth": (0.0, jitter(true))}
    for strength in ("0.5", "1", "2"):
        smoother = Smoother(float(strength))
        said = np.array([smoother([clip], [i] * CLIP, times)[0] for i, clip in enumerate(given)])
        measured[strength] = mpjpe(said, true), jitter(said)
    page = Path("docs/using.md").read_text()
    rows = re.findall(r"^\| `?(?:--smooth )?(0|0\.5|1|2|truth)`? \| ([\d.]+) \| ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) == 5
    for name, error, third_difference in rows:
        assert measured[name] == pytest.approx((float(error), float(third_difference)), abs=0.06), measured


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt", head=HEAD_PLACE)


def run(checkpoint, inputs, output, *more):
    flags = ["--checkpoint", checkpoint, "--input", *inputs, "--output", output, "--device", "cpu", "--no-images"]
    return main([str(flag) for flag in (*flags, *more)])


def predicted(output):
    return json.loads((output / "predictions.json").read_text())


def values(entries, key):
    """Return the numbers (n, joints, ...) of a key, NaN for null."""
    rows = [list(entry[key].values()) for entry in entries]
    width = max(len(item) for row in rows for item in row if item is not None)
    return np.array([[item if item is not None else [np.nan] * width for item in row] for row in rows], float)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 32])
def test_videos_are_smoothed_and_all_follows_from_it(tmp_path, checkpoint, batch_size):
    times = [40 * i + 3 * (i % 3) for i in range(14)]
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / name, scene(14, 96, 96), times)
    videos = [tmp_path / "a.mkv", tmp_path / "b.mkv"]
    more = ("--batch-size", batch_size, "--precision", "fp32")
    assert run(checkpoint, videos, tmp_path / "raw", *more) == 0
    assert run(checkpoint, videos, tmp_path / "smooth", *more, "--smooth", "2") == 0
    assert predicted(tmp_path / "raw")["smoothing"] is None
    content = predicted(tmp_path / "smooth")
    assert content["smoothing"]["filter"] == "one euro"
    assert content["smoothing"]["strength"] == 2
    assert content["smoothing"]["min_cutoff_hz"] == MIN_CUTOFF / 2
    raw, smooth = predicted(tmp_path / "raw")["images"], content["images"]
    found = [values(raw, "joints_3d_m"), values(raw, "joints_2d_px") / 96]
    expected = Smoother(2.0)(found, [entry["file"] for entry in raw], [entry["time_s"] for entry in raw])
    np.testing.assert_allclose(values(smooth, "joints_3d_m"), expected[0], atol=3e-4)
    np.testing.assert_allclose(values(smooth, "joints_2d_px"), expected[1] * 96, atol=0.05)
    assert np.abs(expected[0] - found[0]).max() > 0.1
    placed = values(smooth, "joints_3d_camera_m")
    np.testing.assert_allclose(placed[:, HEAD], [HEAD_PLACE["mean"]] * len(smooth), atol=1e-4)
    np.testing.assert_allclose(
        placed - placed[:, :1], values(smooth, "joints_3d_m") - values(smooth, "joints_3d_m")[:, :1], atol=1e-4
    )
    camera = CAMERA.cropped("square", 96)
    projected = camera.project(placed)
    shown = values(smooth, "projected_2d_px")
    inside = camera.visibility(projected, placed) == IN_IMAGE
    assert inside.any()
    np.testing.assert_allclose(shown[inside], projected[inside], atol=0.05)
    apart = np.linalg.norm(shown[:, list(SKELETON.heatmap_joints)] - values(smooth, "joints_2d_px"), axis=-1)
    said = np.array([list(entry["projection_distance_px"].values()) for entry in smooth], float)
    np.testing.assert_allclose(said[np.isfinite(said)], apart[np.isfinite(said)], atol=0.05)


@pytest.mark.slow
def test_a_folders_frames_come_thirty_times_a_second(tmp_path, capsys, checkpoint):
    frames = scene(6, 96, 96)
    write_images(tmp_path / "in", frames)
    (tmp_path / "in" / "02b.png").write_text("no image")
    more = ("--smooth", "1", "--batch-size", "2", "--precision", "fp32")
    assert run(checkpoint, [tmp_path / "in"], tmp_path / "out", "--sequence", *more) == 1
    model = load_model(checkpoint, device="cpu", precision="fp32")
    stream = PoseStream(model, smooth=1.0)
    poses = [stream.push(image, n / RATE) for image, n in zip(frames, (0, 1, 2, 4, 5, 6), strict=True)]
    said = values(predicted(tmp_path / "out")["images"], "joints_3d_m")
    np.testing.assert_allclose(said, np.concatenate([pose.joints_3d for pose in poses]), atol=3e-4)
    assert np.abs(said - model(frames).joints_3d).max() > 0.01

    assert run(checkpoint, [tmp_path / "in"], tmp_path / "none", *more) == 2
    assert "--smooth is for consecutive frames, and each image is by itself: add --sequence" in capsys.readouterr().err
    write_video(tmp_path / "in" / "clip.mkv", frames)
    assert run(checkpoint, [tmp_path / "in"], tmp_path / "mixed", *more) == 1
    assert "7 images are each by themselves and are not smoothed: --sequence" in capsys.readouterr().err
    entries = predicted(tmp_path / "mixed")["images"]
    alone = values([entry for entry in entries if entry["file"] != "clip.mkv"], "joints_3d_m")
    np.testing.assert_allclose(alone, model(frames).joints_3d, atol=3e-4)


@pytest.mark.slow
def test_programs_push_frames(tmp_path, checkpoint):
    """The same as the command says of a video."""
    write_video(tmp_path / "clip.mkv", scene(8, 96, 128))
    frames, times = read_video(tmp_path / "clip.mkv")
    more = ("--rotate", "90", "--batch-size", "1")
    assert run(checkpoint, [tmp_path / "clip.mkv"], tmp_path / "out", "--smooth", "1", *more) == 0
    model = load_model(checkpoint, device="cpu")
    stream = PoseStream(model, smooth=1.0, rotate=90)
    entries = predicted(tmp_path / "out")["images"]
    poses = [stream.push(image, time) for image, time in zip(frames, times, strict=True)]
    for key, field in (
        ("joints_3d_m", "joints_3d"),
        ("joints_2d_px", "joints_2d"),
        ("projected_2d_px", "projected_2d"),
    ):
        expected = np.concatenate([getattr(pose, field) for pose in poses])
        np.testing.assert_allclose(values(entries, key), expected, atol=0.02)
    unsmoothed = PoseStream(model)
    for image in frames[:3]:
        np.testing.assert_array_equal(unsmoothed.push(image, 0.0).joints_3d, model([image]).joints_3d)
    with pytest.raises(InputError, match="smooth is -1: give 0"):
        PoseStream(model, smooth=-1)
    with pytest.raises(ValueError, match="give uint8"):
        stream.push(frames[0].astype(float), 9.0)
