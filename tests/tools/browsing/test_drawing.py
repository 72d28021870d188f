"""Joints are drawn where they are in the image."""

import cv2
import numpy as np
import pytest
import torch

from engine.loaded_model import read_model
from loaders import DataConfig, ShardSet, build_loader
from models.heatmaps import decode_heatmaps
from models.xr_egopose import CAMERA, JOINTS, SKELETON
from tests.browser import visit
from tests.checkpoint_factory import make_checkpoint
from tests.shard_factory import BACKGROUND, COLORS, make_shard_set
from tests.tools.browsing.sheets import FRAMES, browse, field, frames_in, keys, said

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("image_format", "image_size"), [("png", 128), ("png", 96), ("source", 256)])
def test_joints_lie_on_the_painted_dots(browser, tmp_path, image_format, image_size):
    shards = make_shard_set(tmp_path / "shards", {"val": 9}, image_size=128, image_format=image_format)
    assert browse(shards, tmp_path / "sheet.html", "--image-size", image_size) == 0
    with visit(browser, tmp_path / "sheet.html", size=(1280, 1400)) as page:
        field(page, "Image width").fill("300")
        page.locator(".open").first.blur()
        field(page, "bones").uncheck()
        circles = [circle.bounding_box() for circle in page.locator(".sheet circle").all()]
        with_joints = screen(page)
        field(page, "truth").uncheck()
        without = screen(page)
    centers = np.array([[box["x"] + box["width"] / 2, box["y"] + box["height"] / 2] for box in circles])
    assert len(centers) == 9 * len(JOINTS)
    reach = 25  # 2.7 standard deviations of a dot
    drawn = np.abs(with_joints - without).max(2) > 8
    offsets = []
    for number, center in enumerate(centers):
        if np.sort(np.linalg.norm(centers - center, axis=1))[1] < 2.2 * reach:
            continue
        corner = left, top = center.round().astype(int) - reach
        window = np.s_[top : top + 2 * reach, left : left + 2 * reach]
        towards = COLORS[number % len(JOINTS)] - BACKGROUND
        cover = ((without[window] - BACKGROUND) @ towards / np.square(towards).sum()).clip(0, 1)
        assert cover.max() > 0.7, "no dot of this joint's color here"
        box_to_circle = centroid(drawn[window]) + corner - center
        assert np.abs(box_to_circle).max() < 1
        offsets.append(centroid(np.where(cover > 0.2, cover, 0)) - centroid(drawn[window]))
    assert len(offsets) > 10
    assert np.abs(offsets).max() < 0.6
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.25


def screen(page):
    return cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR_RGB).astype(float)


def centroid(cover):
    """Its x and y in CSS pixels, which have their centers at halves."""
    rows, columns = np.indices(cover.shape) + 0.5
    return np.array([(columns * cover).sum(), (rows * cover).sum()]) / cover.sum()


def test_predictions_are_drawn_where_the_networks_see_them(sheet, shards, checkpoints):
    frames, shard_set = frames_in(sheet), ShardSet(shards, "val")
    for number, size in enumerate((64, 128)):
        (batch,) = build_loader(DataConfig(shards=shards, batch_size=FRAMES, image_size=size), "val")
        with torch.no_grad():
            joints_3d = read_model(checkpoints[number], torch.device("cpu")).model(batch.image)[1].numpy()
        labels = shard_set.pose(batch.index.numpy())
        seen = CAMERA.cropped("square", 96).project(joints_3d + labels[:, :1, 2:])
        for index in range(FRAMES):
            frame = frames[shard_set.key(index)]
            np.testing.assert_allclose(frame["truth"], labels[index, :, :2], atol=0.006)
            np.testing.assert_allclose(frame["predictions"][number], seen[index], atol=0.05)


def test_beside_a_heatmap_network_positions_are_compared(browser, tmp_path, shards, checkpoints):
    networks = ((checkpoints[1], 128), (make_checkpoint(tmp_path / "2d.pt", "train2d"), 64))
    sheet = tmp_path / "sheet.html"
    assert browse(shards, sheet, "--checkpoint", *(path for path, _ in networks), "--order", "difference") == 0
    frames, shard_set = frames_in(sheet), ShardSet(shards, "val")
    errors = np.empty((FRAMES, 2))
    for number, (path, size) in enumerate(networks):
        (batch,) = build_loader(DataConfig(shards=shards, batch_size=FRAMES, image_size=size), "val")
        with torch.no_grad():
            predicted = read_model(path, torch.device("cpu")).model(batch.image)
        heatmap = predicted if isinstance(predicted, torch.Tensor) else predicted[0]
        peaks = (decode_heatmaps(heatmap, size)[0].numpy() + 0.5) * 96 / size - 0.5
        true = shard_set.pose(range(FRAMES))[:, list(SKELETON.heatmap_joints), :2]
        errors[:, number] = np.linalg.norm(peaks - true, axis=-1).mean(1) * 800 / 96
        for index in range(FRAMES):
            drawn = dict(zip(JOINTS, frames[shard_set.key(index)]["predictions"][number], strict=True))
            assert drawn.pop("Head") is None
            np.testing.assert_allclose(list(drawn.values()), peaks[index], atol=0.05)
    found = [frames[shard_set.key(index)]["errors"] for index in range(FRAMES)]
    np.testing.assert_allclose(found, errors, atol=0.05)
    with visit(browser, sheet) as page:
        differences = -np.abs(np.subtract(*np.transpose(found)))
        assert keys(page) == [shard_set.key(int(index)) for index in np.argsort(differences, kind="stable")]
        assert page.locator(".sheet .predicted-pose").first.locator("circle").count() == len(SKELETON.heatmap_joints)
        assert said(page).endswith(" px")
