"""A live camera, played by a server that sends a video as it would be taken."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from engine.infer import load_model, main
from engine.inference import camera
from engine.inference.camera import Camera
from engine.inference.pose_model import PoseModel
from tests.checkpoint_factory import make_checkpoint
from tests.engine.inference.live_server import RATE, encoded, live_server
from tests.engine.inference.test_video import read_video, scene

pytestmark = [pytest.mark.slow, pytest.mark.network]

LONG = 1800
"""Frames of a stream that no test waits for the end of."""


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.fixture(scope="module")
def minute():
    return encoded(scene(40) * (LONG // 40))


def arguments(checkpoint, address, output, *more):
    flags = ["--checkpoint", checkpoint, "--camera", address, "--output", output, "--device", "cpu", *more]
    return [str(flag) for flag in flags]


def predicted(output):
    return json.loads((output / "predictions.json").read_text())


def test_the_newest_frames_are_predicted_and_the_others_counted(tmp_path, monkeypatch, capsys, finetuned):
    frames = scene(90)
    pieces = encoded(frames)
    (tmp_path / "sent.ts").write_bytes(b"".join(pieces))
    decoded, _ = read_video(tmp_path / "sent.ts")
    begin = PoseModel.begin

    def slow(self, *batch):
        time.sleep(0.2)
        return begin(self, *batch)

    monkeypatch.setattr(PoseModel, "begin", slow)
    with live_server(pieces) as server:
        assert main(arguments(finetuned, server.address, tmp_path / "out")) == 0
    monkeypatch.undo()
    content = predicted(tmp_path / "out")
    assert content["camera"] == server.address
    assert content["unreadable"] == []
    entries = content["images"]
    numbers = [entry["frame"] for entry in entries]
    assert numbers[-1] == 89  # the last one is not lost
    assert (np.diff(numbers) > 1).sum() > len(numbers) / 2
    times = [entry["time_s"] for entry in entries]
    assert times == pytest.approx([(number - numbers[0]) / RATE for number in numbers], abs=1e-4)
    model = load_model(finetuned, device="cpu")
    for entry in entries:  # each number is that of the image which was predicted
        pose = model(decoded[entry["frame"]][None]).joints_3d[0]
        np.testing.assert_allclose(list(entry["joints_3d_m"].values()), pose, atol=2e-4)
    drawn, shown_at = read_video(tmp_path / "out/images/camera.mp4")
    assert shown_at == pytest.approx(times, abs=1e-4)
    assert np.median(np.abs(drawn[-1].astype(int) - decoded[-1])) < 12
    said = capsys.readouterr().out
    assert f"{len(entries)} of 90 frames in" in said
    assert f"{90 - len(entries)} frames skipped" in said
    assert re.search(r"frames/s, latency \d{3,} ms \(median\)", said)  # at least the 200 of the slow network


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_files_are_whole(tmp_path, finetuned, minute, number):
    """It comes twice at once, as from `timeout`."""
    with live_server(minute) as server:
        process = subprocess.Popen(
            [sys.executable, "engine/infer.py", *arguments(finetuned, server.address, tmp_path / "out")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not list(tmp_path.glob("out/images/*")):  # the video has begun
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(process.pid, number)
        time.sleep(0.02)
        os.kill(process.pid, number)
        said, _ = process.communicate(timeout=120)
        assert server.sent < LONG
    assert process.returncode == 0, said
    assert said.count(f"{number.name}: ending; the files are finished") == 1
    entries = predicted(tmp_path / "out")["images"]
    drawn, _ = read_video(tmp_path / "out/images/camera.mp4")
    assert len(drawn) == len(entries) > 0
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == {"predictions.json", "camera.mp4"}


def test_a_duration_ends_it(tmp_path, finetuned, minute):
    with live_server(minute) as server:
        more = ("--duration", "1", "--no-images", "--smooth", "1")
        assert main(arguments(finetuned, server.address, tmp_path / "out", *more)) == 0
        assert server.sent < LONG
    content = predicted(tmp_path / "out")
    assert 0 < content["images"][-1]["time_s"] < LONG / RATE / 2
    assert content["smoothing"]["strength"] == 1
    assert not (tmp_path / "out/images").exists()


@pytest.mark.parametrize("end", ["reset", "silence"])
def test_what_came_before_the_camera_failed_is_kept(tmp_path, monkeypatch, capsys, finetuned, end):
    reason = {"reset": "Connection reset by peer", "silence": "nothing came for 2 seconds"}[end]
    monkeypatch.setattr(camera, "_PATIENCE", 2.0)
    with live_server(encoded(scene(60)), end) as server:
        assert main(arguments(finetuned, server.address, tmp_path / "out")) == 1
    content = predicted(tmp_path / "out")
    assert content["unreadable"] == [{"file": "camera", "reason": reason}]
    assert len(read_video(tmp_path / "out/images/camera.mp4")[0]) == len(content["images"]) > 0
    said = capsys.readouterr().err
    assert re.search(rf"warning: camera {server.address}: {reason} after \d+ frames; what came before is kept", said)


def test_what_is_no_camera_is_said_in_one_line(tmp_path, capsys, monkeypatch, finetuned):
    (tmp_path / "clip.mp4").write_text("")
    cases = (
        ("77", (), "camera /dev/video77 does not exist: `ls /dev/video*` names"),
        ("clip", (), "camera clip does not exist"),
        (tmp_path / "clip.mp4", (), "is no camera: give files and folders by --input"),
        ("/dev/null", (), "cannot be opened (Inappropriate ioctl for device): it is no camera"),
        (
            "http://me:secret@127.0.0.1:1/x",
            (),
            "camera http://127.0.0.1:1/x cannot be opened (Connection refused): check",
        ),
        (
            "0",
            ("--input", tmp_path),
            "--input is for files, and --camera's frames come one by one: drop one of the two",
        ),
        ("0", ("--batch-size", "2"), "--batch-size is for files"),
        ("0", ("--sequence",), "--sequence is for files"),
        ("0", ("--duration", "-1"), "--duration is -1"),
    )
    for address, more, expected in cases:
        assert main(arguments(finetuned, address, tmp_path / "out", *more)) == 2, address
        said = capsys.readouterr().err
        assert expected in said
        assert "secret" not in said
        assert said.strip().splitlines()[-1].startswith("infer: error: ")
    flags = ["--checkpoint", str(finetuned), "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([*flags, "--duration", "3"]) == 2
    assert "--duration is for --camera: drop it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_device_that_another_program_uses(monkeypatch, capsys, tmp_path, finetuned):
    def busy(*_, **__):
        av.error.err_check(-errno.EBUSY)

    monkeypatch.setattr(av, "open", busy)
    assert main(arguments(finetuned, "/dev/null", tmp_path / "out")) == 1
    assert "camera /dev/null: another program uses it: end that, then run again" in capsys.readouterr().err


def test_frames_of_the_stream_that_cannot_be_decoded_are_said(tmp_path, capsys, finetuned):
    pieces = encoded(scene(60))
    for number in range(20, 60):  # but not the packets' own headers
        pieces[number] = b"".join(
            pieces[number][i : i + 60] + bytes(128) if pieces[number][i + 1] & 31 == 1 else pieces[number][i : i + 188]
            for i in range(0, len(pieces[number]) - 187, 188)
        )
    with live_server(pieces) as server:
        assert main(arguments(finetuned, server.address, tmp_path / "out", "--no-images")) == 0
    assert re.search(r"\d+ damaged frames skipped", capsys.readouterr().err)


def test_the_password_stays_secret():
    assert Camera("rtsp://me:p@ss@10.0.0.7:554/live?x=1").shown == "rtsp://10.0.0.7:554/live?x=1"
    assert Camera("rtsp://10.0.0.7/a@b").shown == "rtsp://10.0.0.7/a@b"
