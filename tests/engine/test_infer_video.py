"""Videos in, annotated videos out."""

import json

import cv2
import numpy as np
import pytest

from engine.drawing import ORANGE
from engine.infer import load_model, main
from tests.checkpoint_factory import make_checkpoint

SIDE = 160


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


def write_video(path, frames, codec="MJPG", rate=12.5):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][:, :, ::-1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def scene(count, width=SIDE, height=120):
    """Pictures that differ, in soft colours that codecs keep."""
    small = np.random.default_rng(0).integers(60, 200, (count, 4, 5, 3), np.uint8)
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in small]


def run(finetuned, inputs, output, *more):
    flags = ["--checkpoint", finetuned, "--input", *inputs, "--output", output, "--device", "cpu", *more]
    return main([str(flag) for flag in flags])


def test_a_video_becomes_predictions_and_a_video(tmp_path, capsys, finetuned):
    write_video(tmp_path / "clip.avi", scene(7))
    cv2.imwrite(str(tmp_path / "before.png"), scene(1)[0][:, :, ::-1])
    cv2.imwrite(str(tmp_path / "later.png"), scene(1)[0][:, :, ::-1])
    assert run(finetuned, [tmp_path], tmp_path / "out", "--batch-size", "3") == 0
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    entries = content["pictures"]
    assert [entry["file"] for entry in entries] == ["before.png", *["clip.avi"] * 7, "later.png"]
    assert [entry.get("frame") for entry in entries] == [None, *range(7), None]
    assert [entry.get("time_s") for entry in entries[1:8]] == [pytest.approx(i / 12.5) for i in range(7)]
    decoded, _ = read_video(tmp_path / "clip.avi")
    poses = load_model(finetuned, device="cpu")(decoded)
    for i, entry in enumerate(entries[1:8]):
        np.testing.assert_allclose(list(entry["joints_3d_m"].values()), poses.joints_3d[i], atol=2e-4)
    drawn, rate = read_video(tmp_path / "out/pictures/clip.avi.mp4")
    assert rate == 12.5
    assert len(drawn) == 7
    for original, frame in zip(decoded, drawn, strict=True):
        assert frame.shape == original.shape
        orange = np.abs(frame.astype(int) - ORANGE).sum(2) < 120
        changed = np.abs(frame.astype(int) - original.astype(int)).sum(2) > 150
        assert (orange & changed).sum() > 20
        assert np.median(np.abs(frame.astype(int) - original)) < 12  # the rest is the frame itself
    assert "9 of 9 pictures" in capsys.readouterr().out


def test_two_videos_and_odd_sizes(tmp_path, finetuned):
    (tmp_path / "more").mkdir()
    write_video(tmp_path / "more/a.mp4", scene(3, 97, 71), "mp4v")
    write_video(tmp_path / "b.mp4", scene(2), "mp4v")
    assert run(finetuned, [tmp_path / "b.mp4", tmp_path / "more"], tmp_path / "out") == 0
    first, _ = read_video(tmp_path / "out/pictures/b.mp4")
    second, _ = read_video(tmp_path / "out/pictures/more/a.mp4")
    assert [len(first), first[0].shape] == [2, (120, SIDE, 3)]
    assert [len(second), second[0].shape] == [3, (70, 96, 3)]


def test_videos_that_break_off_are_listed_and_what_there_is_is_used(tmp_path, capsys, finetuned):
    write_video(tmp_path / "whole.avi", scene(40))
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mov").write_text("hello")
    (tmp_path / "folder.mkv").mkdir()
    assert run(finetuned, [tmp_path], tmp_path / "out", "--no-pictures") == 1
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    reasons = {item["file"]: item["reason"] for item in content["unreadable"]}
    assert reasons.keys() == {"cut.avi", "empty.mp4", "text.mov", "folder.mkv"}
    frames = [entry["frame"] for entry in content["pictures"] if entry["file"] == "cut.avi"]
    assert 5 < len(frames) < 35
    assert reasons["cut.avi"] == f"breaks off after {len(frames)} of 40 frames"
    assert len([entry for entry in content["pictures"] if entry["file"] == "whole.avi"]) == 40
    assert "infer: unreadable: " in capsys.readouterr().err
