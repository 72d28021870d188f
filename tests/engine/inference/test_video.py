"""Videos in, annotated videos out."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from engine.infer import load_model, main
from engine.inference import video_writer
from engine.inference.video import Clock, Video
from engine.inference.video_writer import writing_video
from engine.visualization import ORANGE
from tests.checkpoint_factory import make_checkpoint

pytestmark = pytest.mark.slow

SIDE = 160
MILLISECOND = Fraction(1, 1000)
UNEVEN = [40 * i for i in range(20)] + [800 + 3 * i * i for i in range(20)]
"""Times of frames (milliseconds)."""


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


def write_video(path, frames, times=None, *, codec="libx264", container_format=None, mux=None, before=None):
    """Write a video with B-frames where the codec has them; ``times`` in milliseconds."""
    options = {"bf": "2", "crf": "10"} if codec == "libx264" else {"q": "2"}
    with av.open(str(path), "w", format=container_format, options=mux or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        tick = Fraction(1, 25) if times is None else MILLISECOND
        stream.time_base = stream.codec_context.time_base = tick
        if before:
            before(stream)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i if times is None else times[i], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_video(path):
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [image for _, image in frames], [time for time, _ in frames]


def scene(count, width=SIDE, height=120):
    """Images that differ, in soft colors that codecs keep."""
    small = np.random.default_rng(0).integers(60, 200, (count, 4, 5, 3), np.uint8)
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in small]


def run(finetuned, inputs, output, *more):
    flags = ["--checkpoint", finetuned, "--input", *inputs, "--output", output, "--device", "cpu", *more]
    return main([str(flag) for flag in flags])


def predicted(output):
    return json.loads((output / "predictions.json").read_text())


def test_a_video_becomes_predictions_and_a_video(tmp_path, capfd, finetuned):
    write_video(tmp_path / "clip.avi", scene(7), codec="mjpeg")
    cv2.imwrite(str(tmp_path / "before.png"), scene(1)[0][:, :, ::-1])
    cv2.imwrite(str(tmp_path / "later.png"), scene(1)[0][:, :, ::-1])
    assert run(finetuned, [tmp_path], tmp_path / "out", "--batch-size", "3") == 0
    entries = predicted(tmp_path / "out")["images"]
    assert [entry["file"] for entry in entries] == ["before.png", *["clip.avi"] * 7, "later.png"]
    assert [entry.get("frame") for entry in entries] == [None, *range(7), None]
    assert [entry.get("time_s") for entry in entries[1:8]] == [pytest.approx(i / 25) for i in range(7)]
    decoded, _ = read_video(tmp_path / "clip.avi")
    poses = load_model(finetuned, device="cpu")(decoded)
    for i, entry in enumerate(entries[1:8]):
        np.testing.assert_allclose(list(entry["joints_3d_m"].values()), poses.joints_3d[i], atol=2e-4)
    drawn, times = read_video(tmp_path / "out/images/clip.avi.mp4")
    assert times == [pytest.approx(i / 25) for i in range(7)]
    for original, frame in zip(decoded, drawn, strict=True):
        assert frame.shape == original.shape
        orange = np.abs(frame.astype(int) - ORANGE).sum(2) < 120
        changed = np.abs(frame.astype(int) - original.astype(int)).sum(2) > 150
        assert (orange & changed).sum() > 20
        assert np.median(np.abs(frame.astype(int) - original)) < 12  # the rest is the frame itself
    assert "9 of 9 images" in capfd.readouterr().out


@pytest.mark.parametrize("start", [0, 5_000, 100_000_000])
@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_times_are_the_containers_and_the_annotated_video_keeps_them(tmp_path, finetuned, name, start):
    expected = [start + time for time in UNEVEN]
    write_video(tmp_path / name, scene(40), expected)
    assert run(finetuned, [tmp_path / name], tmp_path / "out") == 0
    times = [entry["time_s"] for entry in predicted(tmp_path / "out")["images"]]
    assert times == pytest.approx([time / 1000 for time in expected], abs=1e-9)
    assert read_video(next((tmp_path / "out/images").iterdir()))[1] == pytest.approx(times, abs=1e-9)


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libvpx-vp9", "vp9")])
def test_browsers_play_what_is_written(tmp_path, monkeypatch, finetuned, encoder, codec):
    monkeypatch.setattr(video_writer, "ENCODERS", {"absent": {}, encoder: video_writer.ENCODERS[encoder]})
    write_video(tmp_path / "clip.mkv", scene(9), UNEVEN[12:21])
    assert run(finetuned, [tmp_path / "clip.mkv"], tmp_path / "out") == 0
    path = tmp_path / "out/images/clip.mkv.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == (codec, "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (SIDE, 120, 9)
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # it plays before all of it is there
    frames, times = read_video(path)
    assert times == pytest.approx([time / 1000 for time in UNEVEN[12:21]])
    assert np.median(np.abs(frames[4].astype(int) - scene(9)[4]), (0, 1)).max() < 6


def test_without_an_encoder_predictions_are_written_and_the_reason_is_said(tmp_path, monkeypatch, capsys, finetuned):
    monkeypatch.setattr(video_writer, "ENCODERS", {"absent": {}})
    write_video(tmp_path / "a.mp4", scene(3))
    write_video(tmp_path / "b.mp4", scene(3))
    assert run(finetuned, [tmp_path], tmp_path / "out") == 1
    assert len(predicted(tmp_path / "out")["images"]) == 6
    said = capsys.readouterr().err
    assert "warning: not written: the video of a.mp4: PyAV is built without absent" in said
    assert said.count("not written") == 2
    assert not list((tmp_path / "out/images").iterdir())


def test_two_videos_and_odd_sizes(tmp_path, finetuned):
    (tmp_path / "more").mkdir()
    write_video(tmp_path / "more/a.avi", scene(3, 97, 71), codec="mjpeg")
    write_video(tmp_path / "b.mp4", scene(1))
    assert run(finetuned, [tmp_path / "b.mp4", tmp_path / "more"], tmp_path / "out") == 0
    first, _ = read_video(tmp_path / "out/images/b.mp4")
    second, _ = read_video(tmp_path / "out/images/more/a.avi.mp4")
    assert [len(first), first[0].shape] == [1, (120, SIDE, 3)]
    assert [len(second), second[0].shape] == [3, (70, 96, 3)]


def test_sizes_and_times_that_no_mp4_holds(tmp_path):
    path = tmp_path / "clip.mp4"
    with writing_video(path, Clock(MILLISECOND, Fraction(25))) as writer:
        for time, side in ((-0.5, 33), (-0.46, 60), (-0.46, 1), (-0.48, 33), (0.1, 33)):
            writer.write(np.full((side, side, 3), 90, np.uint8), time)
    frames, times = read_video(path)
    assert times == pytest.approx([0, 0.04, 0.041, 0.042, 0.6])  # from 0 on, and never back
    assert {frame.shape for frame in frames} == {(32, 32, 3)}
    with writing_video(path, Clock(MILLISECOND, Fraction(25))) as writer:
        writer.write(np.zeros((1, 1, 3), np.uint8), 0)
    assert read_video(path)[0][0].shape == (2, 2, 3)
    with pytest.raises(KeyboardInterrupt), writing_video(tmp_path / "other.mp4", Clock(MILLISECOND, Fraction(25))) as w:
        w.write(np.zeros((32, 32, 3), np.uint8), 0)
        raise KeyboardInterrupt
    assert [found.name for found in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_frames_are_turned_upright(tmp_path, turns, mirrored):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48], image[32:, 48:] = (250, 0, 0), (0, 0, 250)
    write_video(
        tmp_path / "clip.mp4", [image] * 2, before=lambda stream: stream.set_display_rotation(90 * turns, mirrored)
    )
    expected = np.rot90(image, turns)
    expected = expected[:, ::-1] if mirrored else expected
    found = [frame for frame, _ in Video(tmp_path / "clip.mp4")]
    assert len(found) == 2
    assert np.abs(found[0].astype(int) - expected).mean() < 12


def test_times_before_zero(tmp_path):
    """A transport stream counts to 2^33 ticks and begins anew; what lies before that is negative."""
    start = -400 + 2**33 // 90
    write_video(tmp_path / "clip.mp4", scene(20), [start + 40 * i for i in range(20)], container_format="mpegts")
    times = [timing["time_s"] for _, timing in Video(tmp_path / "clip.mp4")]
    assert times[0] < -0.1
    assert np.diff(times) == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.avi", "clip.webm", "parts.mp4"])
def test_videos_that_break_off_are_noticed(tmp_path, name):
    codec = {".avi": "mjpeg", ".webm": "libvpx-vp9"}.get(name[4:], "libx264")
    mux = {"movflags": "frag_keyframe+empty_moov" if name == "parts.mp4" else "faststart"} if "mp4" in name else {}
    times = None if name.endswith("avi") else UNEVEN
    write_video(tmp_path / name, scene(40), times, codec=codec, mux=mux)
    whole = Video(tmp_path / name)
    assert len(list(whole)) == 40
    assert whole.fault == ""
    data = (tmp_path / name).read_bytes()
    for share in (0.6, 0.8):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        cut = Video(tmp_path / name)
        assert 5 < len(list(cut)) < 38
        assert cut.fault.startswith(f"breaks off after {cut.read} ")


def test_a_clip_that_its_edit_list_shortens_is_whole(tmp_path):
    times = [-400 + 40 * i for i in range(30)]
    write_video(tmp_path / "clip.mp4", scene(30), times, mux={"avoid_negative_ts": "disabled"})
    clip = Video(tmp_path / "clip.mp4")
    assert [timing["time_s"] for _, timing in clip] == pytest.approx([0.04 * i for i in range(20)])
    assert clip.fault == ""


def write_song(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])


def test_what_is_no_whole_video_is_listed_and_what_there_is_is_used(tmp_path, capfd, finetuned):
    write_video(tmp_path / "whole.avi", scene(40), codec="mjpeg")
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "codec.avi").write_bytes(data.replace(b"MJPG", b"XQZ1"))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mov").write_text("hello")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:10,\n{tmp_path}/whole.avi\n#EXT-X-ENDLIST\n")
    (tmp_path / "folder.mkv").mkdir()
    write_song(tmp_path / "song.mp4")
    assert run(finetuned, [tmp_path], tmp_path / "out", "--no-images") == 1
    content = predicted(tmp_path / "out")
    reasons = {item["file"]: item["reason"] for item in content["unreadable"]}
    frames = [entry["frame"] for entry in content["images"] if entry["file"] == "cut.avi"]
    assert 5 < len(frames) < 35
    assert reasons == {
        "cut.avi": f"breaks off after {len(frames)} of 40 frames",
        "codec.avi": "none of its frames can be decoded",
        "empty.mp4": "empty",
        "text.mov": "not a video, or damaged",
        "list.mp4": "not a video, or damaged",
        "folder.mkv": "a folder",
        "song.mp4": "holds no video",
    }
    assert len([entry for entry in content["images"] if entry["file"] == "whole.avi"]) == 40
    said = capfd.readouterr().err
    assert said.count(" warning: unreadable: ") == len(reasons)
    assert "moov" not in said  # FFmpeg keeps its own messages to itself


def test_damaged_frames_are_skipped_and_counted(tmp_path):
    write_video(tmp_path / "clip.mkv", scene(40), codec="mjpeg")
    with av.open(str(tmp_path / "clip.mkv")) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray((tmp_path / "clip.mkv").read_bytes())
    for place, size in packets[10:13]:
        start = data.index(b"\xff\xd8", place)
        data[start : start + size] = bytes(size)
    (tmp_path / "clip.mkv").write_bytes(data)
    clip = Video(tmp_path / "clip.mkv")
    assert [round(25 * timing["time_s"]) for _, timing in clip] == [*range(10), *range(13, 40)]
    assert clip.fault == "3 damaged frames skipped"


def test_other_endings_and_no_times(tmp_path):
    write_video(tmp_path / "clip.avi", scene(4), container_format="matroska")
    assert len(list(Video(tmp_path / "clip.avi"))) == 4
    write_video(tmp_path / "clip.mp4", scene(4), container_format="h264")  # frames and nothing else: no times, no count
    clip = Video(tmp_path / "clip.mp4")
    assert [timing["time_s"] for _, timing in clip] == pytest.approx([0, 0.04, 0.08, 0.12])
    assert (clip.frames, clip.fault) == (0, "")
