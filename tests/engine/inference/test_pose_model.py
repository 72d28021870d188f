"""From images to poses and back to the images: crops, rotations, the camera frame, projections."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from engine.inference.images import mask_circle
from engine.inference.pose_model import PoseModel
from engine.loaded_model import LoadedModel, read_model
from engine.precision import Precision
from engine.stages import STAGES, ModelConfig
from loaders.codecs import decode
from loaders.preprocessing import Circle, Preprocessing, resize
from models.head import HeadPosition
from models.xr_egopose import CAMERA, HEAD, JOINTS, NECK, SKELETON
from tests.checkpoint_factory import make_checkpoint
from tests.shard_factory import COLORS

SIZE = 256
CPU = torch.device("cpu")
SEEN = list(SKELETON.heatmap_joints)
WIDE = JOINTS.index("LeftHand")
"""The joint that only wider crops than the center square show."""


class DotFinder(nn.Module):
    """A network that finds dots of the joints' colors, whose centers are its heatmaps' peaks; it says one pose."""

    def __init__(self, stage, pose):
        super().__init__()
        self.encoder = stage.encoder
        self.pose = torch.from_numpy(pose)

    def forward(self, image):
        pixels = image.permute(0, 2, 3, 1).float()
        light = pixels.amax(-1, keepdim=True)
        colors = torch.tensor(COLORS[SEEN], dtype=torch.float32) / 255
        unlike = ((pixels / light.clamp_min(1))[..., None, :] - colors).norm(dim=-1)
        weight = torch.where((unlike < 0.1) & (light > 30), light, 0.0)  # (n, H, W, 15)
        places = torch.arange(image.shape[2], dtype=torch.float32)[:, None]
        total = weight.sum((1, 2)).clamp_min(1)
        x, y = ((weight.sum(axis) * places).sum(1) / total for axis in (1, 2))
        return self.encoder(torch.stack([x, y], -1)), self.pose.expand(len(image), -1, -1), None


def trained_on(crop, points, *, head=True, **stored):
    """Return a model that finds dots, says the pose of points in the camera frame, and was trained on a crop."""
    stage = STAGES["finetune"](ModelConfig(backbone="resnet18"), SIZE)
    network = DotFinder(stage, (points - points[NECK]).astype(np.float32))
    place = HeadPosition(tuple(points[HEAD].tolist()), (0.01, 0.02, 0.03)) if head else None
    preprocessing = Preprocessing(**{"crop": crop, "image_size": SIZE, "format": "png", "quality": None, **stored})
    return PoseModel(LoadedModel(None, stage, network, {}, preprocessing, place), Precision.choose("fp32", CPU))


def scene():
    """Return pixels (16, 2) of a 1280x800 frame, far from each other, and points (16, 3) that are seen there."""
    columns, rows = np.meshgrid([375.3, 550.6, 720.2, 880.9], [170.1, 320.7, 480.4, 630.8])
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
    pixels[WIDE] = 1074.6, 390.9
    return pixels, CAMERA.back_project(pixels) * np.random.default_rng(0).uniform(0.3, 1.4, (16, 1))


def painted(pixels):
    """Return a frame with a dot of each joint's color."""
    frame = np.zeros((800, 1280, 3), np.uint8)
    for joint in SKELETON.heatmap_joints:
        center = np.rint(pixels[joint] * 16).astype(int).tolist()
        cv2.circle(frame, center, 13 * 16, COLORS[joint].tolist(), cv2.FILLED, cv2.LINE_AA, 4)
    return frame


def counterclockwise(vectors, quarters):
    """Rotate vectors (..., 2 or 3), y down, as `np.rot90` rotates an image."""
    for _ in range(quarters):
        vectors = np.concatenate([vectors[..., 1:2], -vectors[..., :1], vectors[..., 2:]], axis=-1)
    return vectors


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("crop", ["square", "lens", "full"])
@pytest.mark.parametrize(("width", "scale"), [(1280, 1), (800, 1), (1700, 1), (640, 0.5), (1200, 1.5), (1000, 0.99875)])
def test_dots_are_found_and_the_pose_is_projected_onto_them(crop, quarters, width, scale):
    """The dataset's frames, their center squares, and copies of another size, with more or less at their sides."""
    pixels, points = scene()
    height = round(800 * scale)
    frame = cv2.resize(painted(pixels), (round(1280 * scale), height), interpolation=cv2.INTER_AREA)
    columns = np.arange(width) - (width - frame.shape[1]) // 2
    upright = frame[:, columns.clip(0, frame.shape[1] - 1)] * ((columns >= 0) & (columns < frame.shape[1]))[:, None]
    expected = (pixels + 0.5) * scale - 0.5 + [(width - frame.shape[1]) // 2, 0]
    given = np.rot90(upright.astype(np.uint8), quarters)
    center, middle = (np.array([width, height]) - 1) / 2, (np.array(given.shape[1::-1]) - 1) / 2
    expected = counterclockwise(expected - center, quarters) + middle

    model = trained_on(crop, points)
    poses = model([given], rotate=90 * quarters)
    turned = counterclockwise(points, quarters)
    np.testing.assert_allclose(poses.joints_3d_camera[0], turned, atol=1e-5)
    np.testing.assert_allclose(poses.joints_3d[0], turned - turned[NECK], atol=1e-5)
    # of other sizes, the window that is cut out begins and ends between pixels of the frame
    np.testing.assert_allclose(poses.projected_2d[0], expected, atol=0.01 if scale == 1 else 1.1)
    shown = [joint != WIDE or (crop != "square" and width > 800 * scale) for joint in SEEN]
    side = {"square": 800, "lens": 921, "full": 1280}[crop] * scale
    found = poses.joints_2d[0][shown]
    np.testing.assert_allclose(found, expected[SEEN][shown], atol=0.3 * side / SIZE)
    apart = np.linalg.norm(poses.projected_2d[0, SEEN] - poses.joints_2d[0], axis=1)
    np.testing.assert_allclose(poses.distance[0][shown], apart[shown], rtol=1e-5)
    assert np.isnan(poses.distance[0][SEEN.index(WIDE)]) == (crop == "square")


def test_the_distance_says_when_pose_and_heatmaps_contradict_each_other():
    pixels, points = scene()
    frame = painted(pixels)
    assert np.nanmax(trained_on("lens", points)([frame]).distance) < 2
    wrong = points + np.array([0, 0.08, 0])  # the same pose with the head elsewhere
    distance = trained_on("lens", wrong)([frame]).distance[0]
    expected = np.linalg.norm(CAMERA.project(wrong) - pixels, axis=1)[SEEN]
    np.testing.assert_allclose(distance, expected, atol=2)
    assert distance.min() > 8


def test_what_the_lens_does_not_show_has_no_projection():
    pixels, points = scene()
    hand, foot = JOINTS.index("RightHand"), JOINTS.index("LeftFoot")
    points[hand] = 0.3 * np.array([np.sin(np.radians(95)), 0, np.cos(np.radians(95))])
    points[foot] = 0.3 * np.array([np.sin(np.radians(89)), 0, np.cos(np.radians(89))])
    poses = trained_on("square", points)([painted(pixels)])
    assert np.flatnonzero(np.isnan(poses.projected_2d[0]).any(1)).tolist() == [hand]
    assert [SEEN[i] for i in np.flatnonzero(np.isnan(poses.distance[0]))] == [WIDE, hand, foot]
    np.testing.assert_allclose(poses.joints_3d_camera[0], points, atol=1e-5)


def test_without_the_heads_place_there_is_no_camera_frame():
    pixels, points = scene()
    poses = trained_on("square", points, head=False)([painted(pixels)])
    assert (poses.joints_3d_camera, poses.projected_2d, poses.distance) == (None, None, None)
    none = trained_on("square", points)([])
    shapes = [values.shape for values in (none.joints_3d_camera, none.projected_2d, none.distance)]
    assert shapes == [(0, 16, 3), (0, 16, 2), (0, 15)]


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_a_square_of_the_stored_size_is_the_crop_itself(crop, quarters):
    pixels, points = scene()
    stored = resize(Preprocessing.of("source", crop, 0, 0, CAMERA).cut(painted(pixels)), 300)
    poses = trained_on(crop, points, image_size=300)([np.rot90(stored, quarters)], rotate=90 * quarters)
    expected = CAMERA.transfer(pixels, CAMERA.cropped(crop, 300))
    expected = counterclockwise(expected - 149.5, quarters) + 149.5
    np.testing.assert_allclose(poses.projected_2d[0], expected, atol=0.01)
    shown = [joint != WIDE or crop != "square" for joint in SEEN]
    np.testing.assert_allclose(poses.joints_2d[0][shown], expected[SEEN][shown], atol=0.4)


@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_the_network_gets_what_shards_store(crop):
    """To the same bits, JPEG included, also of a frame that lies on its side."""
    frame = np.random.default_rng(0).integers(0, 256, (800, 1280, 3), np.uint8)
    model = trained_on(crop, scene()[1], format="jpeg", quality=90)
    stored = decode(np.frombuffer(model.preprocessing.encode(frame), np.uint8))
    for quarters in range(4):
        given = np.rot90(frame, quarters)
        np.testing.assert_array_equal(model.preprocess(model.view(given, 90 * quarters).cut(given)), stored)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("crop", ["square", "lens", "full"])
def test_the_circle_of_the_training_images_is_mapped_to_the_image(crop, quarters):
    stored = CAMERA.cropped(crop, 368)
    _, points = scene()
    circle = Circle(stored.cx, stored.cy, 459 * stored.fx / CAMERA.fx)
    model = trained_on(crop, points, image_size=368, image_circle=circle)
    for width in (1280, 800):
        given = np.rot90(np.zeros((800, width, 3), np.uint8), quarters)
        found = mask_circle("auto", model.preprocessing)(model.view(given, 90 * quarters))
        offset = np.array([CAMERA.cx, CAMERA.cy]) - [639.5, 399.5]
        middle = (np.array(given.shape[1::-1]) - 1) / 2
        np.testing.assert_allclose([found.x, found.y], counterclockwise(offset, quarters) + middle, atol=1e-6)
        assert found.radius == pytest.approx(459)


@pytest.mark.parametrize(
    ("saved", "crop"),
    [
        ({"crop": "full", "image_size": 800, "format": "source", "quality": None}, "square"),
        ({"crop": "full", "image_size": 1280, "format": "source", "quality": None}, "full"),
        ({"crop": "full", "image_size": 800, "format": "jpeg", "quality": 95}, "full"),
    ],
    ids=["before crops", "source", "jpeg"],
)
def test_networks_before_crops_saw_the_center_square_of_whole_frames(tmp_path, saved, crop):
    path = make_checkpoint(tmp_path / "best.pt", preprocessing=saved)
    assert read_model(path, CPU).preprocessing.crop == crop
