"""Inference on images of every kind."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from engine.evaluate import main as evaluate
from engine.infer import load_model, main
from engine.inference.images import Preparation, read_image
from engine.inference.pose_model import PoseModel
from engine.inference.view import View
from engine.loaded_model import read_model
from engine.precision import Precision
from engine.stages import Stage
from loaders import InputError, ShardSet
from loaders.codecs import decode, encode
from loaders.preprocessing import Circle, resize
from models.xr_egopose import CAMERA, HEAD, JOINTS, SKELETON
from tests.checkpoint_factory import make_checkpoint
from tools.convert_checkpoint import main as convert

ROTATIONS = (0, 90, 180, 270)


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.fixture(scope="module")
def model(finetuned):
    return load_model(finetuned, device="cpu")


def frame(seed=0, height=800, width=1280):
    """An image that looks different everywhere."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 13, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def write(path, image):
    """Write an RGB image."""
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def run(finetuned, folder, output, *more):
    flags = ["--checkpoint", finetuned, "--input-dir", folder, "--output-dir", output, "--device", "cpu", *more]
    return main([str(flag) for flag in flags])


def prepare(size=64, *, circle=None):
    def view_of(image):
        return View(image.shape[1], image.shape[0])

    return Preparation(lambda square: resize(square, size), view_of, lambda view: circle, keep_canvas=True)


def same(a, b, **tolerance):
    tolerance = {"rtol": 0, "atol": 1e-4} | tolerance
    np.testing.assert_allclose(a.joints_3d, b.joints_3d, **tolerance)
    np.testing.assert_allclose(a.confidence, b.confidence, **tolerance)


@pytest.mark.parametrize("rotate", ROTATIONS)
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (800, 1280), (401, 300), (50, 50)])
def test_positions_map_back_to_the_image(width, height, rotate):
    view = View(width, height, rotate)
    image = np.zeros((height, width, 3), np.uint8)
    side = min(width, height)
    place = np.array([(width - side) // 2 + 0.3 * side, (height - side) // 2 + 0.7 * side])
    cv2.circle(image, place.round().astype(int).tolist(), round(side / 12), (255, 255, 255), -1)
    square = resize(view.cut(image), 64)
    assert square.shape == (64, 64, 3)
    weight = square[:, :, 0].astype(float)
    rows, columns = np.indices(weight.shape)
    seen = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(view.to_image(seen, 64), place, atol=0.02 * side / 64 + 0.51)
    # clockwise: what is at the lower left goes to the upper left, the upper right, the lower right
    expected = {0: (0.3, 0.7), 90: (0.3, 0.3), 180: (0.7, 0.3), 270: (0.7, 0.7)}[rotate]
    np.testing.assert_allclose(seen / 64, expected, atol=0.02)


@pytest.mark.parametrize("rotate", ROTATIONS)
def test_poses_rotate_as_the_image_does(rotate):
    """What lies to the right of the optical axis in the image lies there in the camera's frame, too."""
    view = View(101, 101, rotate)
    direction = np.array([0.4, -0.3])
    offset = view.to_image(50 + 10 * direction, 101) - 50
    rotated = view.to_camera(np.array([*direction, 0.8]))
    np.testing.assert_allclose(rotated, [*(offset / 10), 0.8], atol=1e-9)


def test_only_the_center_square_counts(model):
    image = frame()
    whole, square = model([image]), model([image[:, 240:1040]])
    same(whole, square)
    np.testing.assert_allclose(whole.joints_2d, square.joints_2d + np.array([240, 0]), atol=1e-3)
    larger = np.pad(image[:, 240:1040], ((0, 0), (500, 500), (0, 0)))
    same(model([larger]), square)
    assert np.abs(model([frame(1)]).joints_3d - whole.joints_3d).max() > 0.01  # the image does matter


def test_images_may_be_rotated(model):
    image = frame()[:, 240:1040]
    upright = model([image])
    for rotate in ROTATIONS:
        given = np.rot90(image, rotate // 90)  # counter-clockwise: rotating it clockwise makes it upright
        found = model([given], rotate=rotate)
        back = View(800, 800, rotate)
        np.testing.assert_allclose(found.joints_3d, back.to_camera(upright.joints_3d), atol=1e-4)
        np.testing.assert_allclose(found.joints_2d, back.to_image(upright.joints_2d, 800), atol=1e-2)
        np.testing.assert_allclose(found.confidence, upright.confidence, atol=1e-4)


def test_a_call_takes_one_array_or_many_sizes(model):
    images = np.stack([frame(seed, 64, 64) for seed in range(3)])
    together = model(images)
    assert together.joints_3d.shape == (3, 16, 3)
    assert together.joints_2d.shape == (3, 15, 2)
    assert together.confidence.shape == (3, 15)
    same(model([images[1]]), model([frame(0, 100, 90), images[1]][1:]))
    np.testing.assert_allclose(model([frame(0, 100, 90), images[1]]).joints_3d[1], together.joints_3d[1], atol=1e-4)
    assert len(model([])) == 0
    with pytest.raises(ValueError, match=r"float64 \(64, 64, 3\): give uint8"):
        model(images.astype(float))


def test_what_only_the_loss_needs_is_deleted(finetuned):
    """Poses stay the same to the bit; a stage that computes its loss to predict keeps everything."""
    loaded = read_model(finetuned, torch.device("cpu"))
    precision = Precision.choose("fp32", torch.device("cpu"))
    image = frame(0, 64, 64)

    class Losing(type(loaded.stage)):
        predict = Stage.predict

    stage = Losing(loaded.stage.config, 64)
    kept = PoseModel(dataclasses.replace(loaded, stage=stage), precision)([image])
    with torch.inference_mode():
        heatmap, joints_3d, reconstruction = loaded.model(torch.from_numpy(image[None]).permute(0, 3, 1, 2))
    assert reconstruction.shape == heatmap.shape
    dropped = PoseModel(loaded, precision)([image])
    assert not [name for name in loaded.model.state_dict() if name.startswith(("lifting_net.b2_", "lifting_net.bn"))]
    for poses in (kept, dropped):
        np.testing.assert_array_equal(poses.joints_3d, joints_3d.numpy())
    np.testing.assert_array_equal(kept.joints_2d, dropped.joints_2d)


def test_every_kind_of_image_is_read(tmp_path):
    image = frame(0, 96, 160)
    write(tmp_path / "plain.png", image)
    write(tmp_path / "plain.bmp", image)
    alpha = np.dstack([image[:, :, ::-1], np.full((96, 160), 7, np.uint8)])
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    cv2.imwrite(str(tmp_path / "sixteen.png"), image[:, :, ::-1].astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "gray.png"), image[:, :, 1])
    orientation = Image.Exif()
    orientation[0x112] = 6  # stored rotated counter-clockwise
    Image.fromarray(np.rot90(image).copy()).save(tmp_path / "exif.jpg", exif=orientation, quality=100, subsampling=0)
    squares = {}
    for path in tmp_path.iterdir():
        read = prepare()(read_image(path), path.name)
        assert (read.view.width, read.view.height) == (160, 96)
        assert read.canvas.shape == (96, 160, 3)
        squares[path.name] = read.square.astype(int)
    plain = squares.pop("plain.png")
    gray = squares.pop("gray.png")
    for square in squares.values():
        assert np.abs(square - plain).mean() < 1
    assert np.abs(gray - plain[:, :, 1:2]).max() <= 1


def test_large_images_are_drawn_reduced(tmp_path):
    write(tmp_path / "large.png", np.zeros((20, 4000, 3), np.uint8))
    read = prepare()(read_image(tmp_path / "large.png"), "large.png")
    assert read.canvas.shape == (8, 1600, 3)
    assert read.view.width == 4000


def test_a_folder_becomes_predictions(tmp_path, capsys, finetuned, model):
    folder = tmp_path / "in"
    folder.mkdir()
    images = {"b.png": frame(0), "a.PNG": frame(1, 300, 200), "c.bmp": frame(2, 64, 64)}
    for name, image in images.items():
        write(folder / name, image)
    (folder / "notes.txt").write_text("no image, and not named like one")
    assert run(finetuned, folder, tmp_path / "out", "--batch-size", "2") == 0
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["unreadable"] == []
    entries = content["images"]
    assert [entry["file"] for entry in entries] == ["a.PNG", "b.png", "c.bmp"]
    for entry in entries:
        image = images[entry["file"]]
        poses = model([image])
        assert (entry["width"], entry["height"]) == (image.shape[1], image.shape[0])
        assert list(entry["joints_3d_m"]) == list(JOINTS)
        assert (
            list(entry["joints_2d_px"])
            == list(entry["confidence"])
            == [JOINTS[joint] for joint in SKELETON.heatmap_joints]
        )
        np.testing.assert_allclose(list(entry["joints_3d_m"].values()), poses.joints_3d[0], atol=2e-4)
        np.testing.assert_allclose(list(entry["confidence"].values()), poses.confidence[0], atol=2e-4)
        drawn = cv2.imread(str(tmp_path / "out" / "images" / entry["file"]))
        assert drawn.shape == image.shape
        assert (drawn[:, :, ::-1] != image).any()
    assert "3 of 3 images" in capsys.readouterr().out


def test_predictions_have_the_pose_in_the_camera_frame(tmp_path, capsys):
    """As the model says it, in frames and axes that the head of the file names; NaN becomes null."""
    head = {"mean": (-0.25, 0.5, 1.0), "spread": (0.125, 0.0, 0.25)}
    checkpoint = make_checkpoint(tmp_path / "best.pt", head=head)
    (tmp_path / "in").mkdir()
    images = [frame(seed, 90, 80) for seed in range(2)]
    for i, image in enumerate(images):
        write(tmp_path / "in" / f"{i}.png", image)
    assert run(checkpoint, tmp_path / "in", tmp_path / "out", "--rotate", "90", "--no-images") == 0
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["frames"]["joints_3d_m"] == "relative to Neck"
    # rotated back counterclockwise: what was to the right points up, what was down to the right
    assert content["head"] == {"mean_m": [0.5, 0.25, 1.0], "spread_m": [0.0, 0.125, 0.25]}
    poses = load_model(checkpoint, device="cpu")(images, rotate=90)
    np.testing.assert_allclose(poses.joints_3d_camera[:, HEAD], [[0.5, 0.25, 1.0]] * 2, atol=1e-6)
    for key, expected in (("joints_3d_camera_m", poses.joints_3d_camera), ("projected_2d_px", poses.projected_2d)):
        for i, entry in enumerate(content["images"]):
            assert list(entry[key]) == list(JOINTS)
            values = [np.full(expected.shape[2], np.nan) if v is None else v for v in entry[key].values()]
            np.testing.assert_allclose(values, expected[i], atol=0.02)
    said = [list(entry["projection_distance_px"].values()) for entry in content["images"]]
    said = np.array(said, float)  # None becomes NaN
    np.testing.assert_allclose(said, poses.distance, atol=0.02)
    assert np.isnan(said).any()
    median = np.nanmedian(poses.distance)
    assert f"lie {median:.1f} px from the heatmaps' peaks (median)" in capsys.readouterr().out


def test_a_checkpoint_without_the_heads_place_says_so(tmp_path, capsys, finetuned):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", frame(0, 64, 64))
    assert run(finetuned, tmp_path / "in", tmp_path / "out", "--no-images") == 0
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["head"] is None
    assert "joints_3d_camera_m" not in {**content["frames"], **content["images"][0]}
    said = capsys.readouterr()
    assert "the checkpoint does not say where the head is" in said.err
    assert "median" not in said.out


def test_a_batch_begins_before_the_one_before_is_waited_for(tmp_path, monkeypatch, finetuned, model):
    """Five images and one that is unreadable, two at a time; each has what the model says of it alone."""
    folder, events, begin = tmp_path / "in", [], PoseModel.begin
    folder.mkdir()
    images = {f"{seed}.png": frame(seed, 64, 64) for seed in range(6)}
    for name, image in images.items():
        write(folder / name, image)
    (folder / "3.png").write_text("no image")

    def noted(self, *batch):
        number = sum(event == "begin" for event, _ in events)
        events.append(("begin", number))
        poses_of = begin(self, *batch)
        return lambda: (events.append(("wait", number)), poses_of())[1]

    monkeypatch.setattr(PoseModel, "begin", noted)
    assert run(finetuned, folder, tmp_path / "out", "--batch-size", "2", "--no-images") == 1
    assert events == [("begin", 0), ("begin", 1), ("wait", 0), ("begin", 2), ("wait", 1), ("wait", 2)]
    monkeypatch.undo()
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [entry["file"] for entry in entries] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    pairs = {0: [0, 1], 1: [2], 2: [4, 5]}  # the same batches: the same bits
    poses = [model([images[f"{seed}.png"] for seed in seeds]).joints_3d for seeds in pairs.values()]
    said = np.array([list(entry["joints_3d_m"].values()) for entry in entries])
    np.testing.assert_array_equal(said, np.concatenate(poses).astype(float).round(5))


def test_unreadable_images_are_listed_and_the_rest_go_on(tmp_path, capsys, finetuned):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "good.png", frame(0, 80, 80))
    write(folder / "zz.png", frame(1, 80, 80))
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:100])
    (folder / "folder.png").mkdir()
    assert run(finetuned, folder, tmp_path / "out", "--batch-size", "1", "--no-images") == 1
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["file"] for entry in content["images"]] == ["good.png", "zz.png"]
    assert [item["file"] for item in content["unreadable"]] == ["cut.png", "empty.png", "folder.png", "text.jpg"]
    said = capsys.readouterr()
    for item in content["unreadable"]:
        assert f" warning: unreadable: {folder / item['file']}: {item['reason']}" in said.err
    assert "2 of 6 images" in said.out
    assert not (tmp_path / "out" / "images").exists()


def test_a_folder_of_nothing_readable(tmp_path, finetuned):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.png").touch()
    assert run(finetuned, folder, tmp_path / "out") == 1
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["images"] == []


def test_the_mask_blackens_what_is_outside(tmp_path):
    write(tmp_path / "white.png", np.full((100, 160, 3), 255, np.uint8))
    read = prepare(100, circle=Circle.parse("80,50,30"))(read_image(tmp_path / "white.png"), "white.png")
    for center, image in ((80, read.canvas), (50, read.square)):
        assert (image[50, center - 30 : center + 31] == 255).all()
        assert (image[20:81, center] == 255).all()
        assert not image[50, : center - 30].any()
        assert not image[:20].any()


def test_a_reference_checkpoint_predicts_the_same(tmp_path, finetuned, model):
    assert convert(["--input", str(finetuned), "--output", str(tmp_path / "theirs.pth")]) == 0
    images = [frame(seed, 64, 64) for seed in range(2)]
    theirs = load_model(tmp_path / "theirs.pth", device="cpu")
    np.testing.assert_array_equal(theirs(images).joints_3d, model(images).joints_3d)


def test_images_of_many_folders_keep_their_folders(tmp_path, finetuned):
    names = ("in/a.png", "in/more/a.png", "in/more/b.dat")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(encode(frame(0, 64, 64), ".png"))
    assert run(finetuned, tmp_path / "in/more/b.dat", tmp_path / "one") == 0
    assert run(finetuned, tmp_path / "in/**/*.png", tmp_path / "many") == 0
    one, many = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("one", "many"))
    assert [entry["file"] for entry in one["images"]] == ["b.dat"]
    assert many["input_dir"] == str(tmp_path / "in")
    assert [entry["file"] for entry in many["images"]] == ["a.png", "more/a.png"]
    drawn = [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/images/**/*.*")]
    assert sorted(drawn) == ["many/images/a.png", "many/images/more/a.png", "one/images/b.dat.png"]


def test_the_same_frame_has_the_same_pose_however_it_comes(world):
    """As the dataset's frame, as the square within a larger image, as its stored image: to the same bits."""
    model = load_model(world.checkpoint, device="cpu")
    shard_set = ShardSet(world.shards, "train")
    stored, frames = [], []
    for index in range(0, len(shard_set), 6):
        stored.append(decode(shard_set.member(index, "rgba.jpg")))
        subject, _, number = shard_set.key(index).split("-")
        frames.append(read_image(next(world.dataset.glob(f"TrainSet/{subject}/*/cam_down/rgba/*{number}.png"))))
    larger = np.random.default_rng(0).integers(0, 256, (len(frames), 800, 1700, 3), np.uint8)
    larger[:, :, 450:1250] = np.stack(frames)[:, :, 240:1040]
    expected = model(stored).joints_3d
    assert 1000 * np.linalg.norm(expected - expected.mean(0), axis=2).max() > 25  # it does look at them
    np.testing.assert_array_equal(model(frames).joints_3d, expected)
    np.testing.assert_array_equal(model(larger).joints_3d, expected)


def test_inference_sees_what_evaluation_sees(tmp_path, world):
    """A folder of the dataset's frames: the errors of the predictions are those that evaluate reports."""
    assert (
        evaluate(
            [
                "--checkpoint",
                str(world.checkpoint),
                "--data.shards",
                str(world.shards),
                "--output",
                str(tmp_path / "report"),
            ]
        )
        == 0
    )
    frames = tmp_path / "frames"
    frames.mkdir()
    shard_set = ShardSet(world.shards, "test")
    for index in range(len(shard_set)):
        subject, _, number = shard_set.key(index).split("-")
        found = next(world.dataset.glob(f"TestSet/{subject}/*/cam_down/rgba/*{number}.png"))
        (frames / f"{index:03}.png").symlink_to(found)
    assert run(world.checkpoint, frames, tmp_path / "out", "--no-images") == 0
    entries = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    predicted = np.array([list(entry["joints_3d_m"].values()) for entry in entries])
    pose = shard_set.labels()[0][:, :, 2:].astype(float)
    error = 1000 * np.linalg.norm(predicted - (pose - pose[:, :1]), axis=2).mean()
    reported = json.loads((tmp_path / "report/metrics.json").read_text())["mpjpe_mm"]["All"]
    assert error == pytest.approx(reported, abs=0.05)


def test_other_cameras_images_are_cut_to_the_image_circle(tmp_path, world):
    """The circle is that of the training images, wherever the center square lies and however it is rotated."""
    model = load_model(world.checkpoint, device="cpu")
    expected = CAMERA.cropped("square", 64)
    circle = model.preprocessing.image_circle
    assert model.preprocessing.image_size == 64
    assert (circle.x, circle.y) == pytest.approx((expected.cx, expected.cy), abs=1)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "white.png", np.full((640, 900, 3), 255, np.uint8))
    assert run(world.checkpoint, tmp_path / "in", tmp_path / "out", "--mask-circle", "auto", "--rotate", "180") == 0
    image = cv2.imread(str(tmp_path / "out/images/white.png"))
    black = (image < 9).all(2)
    scale = 640 / 64
    middle = np.array([130 + 640, 640]) - (np.array([circle.x, circle.y]) + 0.5) * scale - 0.5  # rotated by 180
    ys, xs = np.indices(black.shape)
    distance = np.hypot(xs - middle[0], ys - middle[1]) - circle.radius * scale
    assert black[distance > 2].all()
    assert black[distance < -2].mean() < 0.02  # but for the outlines of the drawn pose
    assert black.mean() > 0.1


@pytest.mark.slow
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, finetuned):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", frame(0, 64, 64))
    (tmp_path / "nothing").mkdir()
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "a.png", frame(0, 64, 64))
    halves = [make_checkpoint(tmp_path / f"{stage}.pt", stage) for stage in ("train2d", "train3d")]
    cases = (
        ((finetuned, tmp_path / "absent", tmp_path / "out"), "does not exist"),
        ((finetuned, tmp_path / "nothing", tmp_path / "out"), "has no images"),
        ((finetuned, tmp_path / "images", tmp_path), "would be overwritten"),
        ((tmp_path / "absent.pt", tmp_path / "in", tmp_path / "out"), "does not exist"),
        ((halves[0], tmp_path / "in", tmp_path / "out"), "not the whole way from an image to its pose: give one that"),
        ((halves[1], tmp_path / "in", tmp_path / "out"), "is a train3d checkpoint, which takes no images: give one"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--sequence"), "sees single frames: drop it"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--rotate", "45"), "--rotate"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--mask-circle", "1,2"), "mask_circle is '1,2'"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--mask-circle", "1,2,-3"), "mask_circle"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--mask-circle", "auto"), "does not hold the circle"),
        ((finetuned, tmp_path / "in", tmp_path / "out", "--batch-size", "0"), "at least 1"),
    )
    for arguments, expected in cases:
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr().err
        assert expected in said
        assert said.strip().splitlines()[-1].startswith("infer: error: ")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError):
        load_model(halves[0])
