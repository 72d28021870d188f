"""The report's images and page."""

import dataclasses
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from engine.evaluation.examples import choose, collect_examples
from engine.evaluation.metrics import frame_errors
from engine.report.baselines import TEST_FRAMES, UNKNOWN, comparability, published
from engine.report.pose_plots import body_axes, look
from engine.report.tables import published_table
from engine.visualization import BLUE, ORANGE
from loaders import DataConfig, ShardSet, build_loader
from models.xr_egopose import ACTION_GROUPS, JOINTS, SKELETON, world_to_camera
from tests.browser import DESKTOP, PHONE, visit
from tests.engine.report.reports import EVALUATION, predictions_of, write
from tests.shard_factory import COLORS, make_shard_set

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Notes sources, text, and whether tags are balanced."""

    EMPTY = ("meta", "img", "source", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "srcset", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else(tmp_path, shards, predictions):
    path, _ = write(tmp_path / "report", shards, predictions)
    names = {"metrics.json", "overlays.png", "per_action.png", "per_joint.png", "poses_3d.png", "report.html"}
    assert {file.name for file in path.parent.iterdir()} == names
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 2 * 2 + 2 * 6  # two charts, light and dark; two images of each frame
    assert all(re.match("data:image/(png|jpeg);base64,", source) for source in page.sources)
    assert not re.search("https?://|@import", text)
    assert re.findall("<script.*?>", text) == ['<script type="application/json" id="poses">', "<script>"]  # of our own
    shown = " ".join(page.text)
    for expected in ("A note.", "<script>alert(1)</script>", "runs/<b>&amp;/best.pt", "lr: 0.001", "Gesticulating"):
        assert expected in shown
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_browser_shows_the_page_in_the_light_and_in_the_dark(browser, report, size, dark):
    with visit(browser, report, size=size, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        images = page.evaluate(
            "[...document.querySelectorAll('figure img')].map((image) => [image.naturalWidth, image.clientWidth])"
        )
        assert len(images) == 2 + 2 * 6
        assert all(natural > 0 and shown > 0 for natural, shown in images)
        charts = page.locator("picture").all()
        assert len(charts) == 2
        for place in (page.locator("body"), *charts):
            assert (brightness(place) < 0.3) == dark
            assert (brightness(place) > 0.7) == (not dark)


def brightness(place):
    """Median of what is seen of an element, 0 black to 1 white."""
    return np.median(cv2.imdecode(np.frombuffer(place.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)) / 255


def test_published_results_are_whole_and_sorted():
    results = published()
    assert len(results) == 8
    assert [row.mpjpe_mm["All"] for row in results] == [37.7, 40.4, 46.1, 50.0, 54.7, 58.2, 122.1, 130.4]
    by_method = {row.method: row for row in results}
    assert by_method["Tome et al., dual branch"].mpjpe_mm["Lower Stretching"] == 51.1
    assert by_method["Ego-STAN"].mpjpe_mm["Walking"] == 40.9
    assert by_method["EgoGlass"].mpjpe_mm["Group mean"] == pytest.approx(315.9 / 9)
    assert by_method["Ego-STAN"].input_frames == "5"
    for row in results:
        assert row.mpjpe_mm.keys() == {"All", "Group mean", *ACTION_GROUPS}
        assert row.protocol == ("relative to Neck" if row.source == "official README" else UNKNOWN)
        assert 2017 <= int(row.year) <= 2023


def test_published_results_stand_beside_the_released_test_set_alone(tmp_path, shards, predictions):
    """On other frames no number of them is anywhere, and one sentence says why."""
    names = [row.method for row in published()]
    numbers = {f"{value:.1f}" for row in published() for value in row.mpjpe_mm.values()}
    path, _ = write(tmp_path / "real", shards, predictions)
    shown = " ".join(Page(path.read_text()).text)
    assert all(name in shown for name in [*names, "this checkpoint, relative to Neck", "relative to Neck"])
    assert "It has 115,621 frames, this evaluation 9." in shown
    height = chart_height(path)
    for changes, why in (({"generated": True}, "are generated"), ({"split": "val"}, "are of the val split")):
        path, _ = write(tmp_path / why, shards, predictions, **changes)
        shown = " ".join(Page(path.read_text()).text)
        assert shown.count("No published results are shown") == 1
        assert why in shown
        assert not [name for name in names if name in shown]
        section = shown[shown.index("Published results") : shown.index("By joint")]
        assert not [number for number in numbers if number in section]
        assert chart_height(path) < height  # two bars less in each row


def chart_height(page):
    return cv2.imread(str(page.with_name("per_action.png"))).shape[0]


def test_ours_stand_among_the_published_results_by_both_protocols():
    metrics = {
        "evaluation": EVALUATION,
        "frames": TEST_FRAMES,
        "mpjpe_mm": {"All": 45.0, "Gaming": 44.0},
        "camera_mpjpe_mm": {"All": 51.0},
    }
    table = published_table(metrics, groups=("All", "Gaming", "Talking"))
    neck, camera = "this checkpoint, relative to Neck", "this checkpoint, camera frame"
    assert list(table.rows)[2:6] == [neck, "EgoFish3D (2023)", "Zhang et al. (2021)", camera]
    cells = dict(zip(table.titles, table.rows[neck], strict=True))
    assert cells["protocol"] == "relative to Neck"
    assert (cells["All"], cells["Gaming"], cells["Talking"]) == ("45.0", "44.0", "-")
    assert table.emphasized == {neck, camera}
    assert "this evaluation" not in comparability(metrics)


def test_truth_lies_on_the_painted_joints(tmp_path, shards, predictions):
    _, examples = write(tmp_path / "report", shards, predictions)
    assert [example.kind for example in examples] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    perfect = dataclasses.replace(predictions, joints_3d=predictions.true_3d)
    for example in examples:
        _check_painted(example)
    _, examples = write(tmp_path / "perfect", shards, perfect)
    for example in examples:
        np.testing.assert_allclose(example.predicted_2d, example.true_2d, atol=1e-3)


def _check_painted(example):
    hits = 0
    for joint, (x, y) in enumerate(example.true_2d):
        pixel = example.image[round(float(y)), round(float(x))].astype(float)
        hits += np.abs(COLORS - pixel).sum(1).argmin() == joint
    assert hits >= 13  # a blob may lie under another joint's


@pytest.mark.parametrize("image_format", ["jpeg", "png", "raw", "source"])
def test_an_example_shows_what_the_network_sees(tmp_path, image_format):
    shards = make_shard_set(tmp_path / "shards", {"test": 3}, image_size=96, image_format=image_format)
    shard_set = ShardSet(shards, "test")
    predictions = predictions_of(shard_set)
    errors = frame_errors(predictions, shard_set.manifest, None)
    examples = collect_examples(shard_set, predictions, errors, image_size=64, count=1)
    loader = build_loader(DataConfig(shards=shards, batch_size=3, backend="torch", image_size=64), "test")
    batch = next(iter(loader))
    assert len(examples) == 3
    for example in examples:
        index = [shard_set.key(index) for index in range(3)].index(example.key)
        np.testing.assert_array_equal(example.image, batch.image[index].permute(1, 2, 0))
        np.testing.assert_allclose(example.true_2d, batch.joints_2d[index], atol=1e-4)
    loader.close()


def test_overlays_show_both_colors(tmp_path, shards, predictions):
    path, _ = write(tmp_path / "report", shards, predictions)
    overlays = cv2.imread(str(path.with_name("overlays.png")))[:, :, ::-1]
    assert overlays.shape == (3 * 256 + 8, 2 * 256 + 4, 3)
    poses = cv2.imread(str(path.with_name("poses_3d.png")))[:, :, ::-1]
    for image in (overlays, poses):
        for color in (ORANGE, BLUE):
            assert (image == color).all(2).sum() > 500
    for name in ("per_action.png", "per_joint.png"):
        chart = cv2.imread(str(path.with_name(name)))[:, :, ::-1]
        assert (chart == ORANGE).all(2).sum() > 500


def test_a_checkpoint_without_poses(tmp_path, shards, predictions):
    flat = dataclasses.replace(predictions, joints_3d=None)
    path, examples = write(tmp_path / "report", shards, flat, stage="train2d")
    assert {file.name for file in path.parent.iterdir()} == {"metrics.json", "overlays.png", "report.html"}
    assert examples[0].unit == "px"
    assert len(Page(path.read_text()).sources) == 6
    assert not re.search("<script|<button|pose_view", path.read_text())  # there is nothing to turn


def test_shards_without_images(tmp_path, predictions):
    shards = make_shard_set(tmp_path / "shards", {"train": 4, "test": 9}, image_size=128, components=("json",))
    path, examples = write(tmp_path / "report", shards, predictions)
    assert all(example.image is None for example in examples)
    assert "overlays.png" not in {file.name for file in path.parent.iterdir()}
    assert len(Page(path.read_text()).sources) == 4 + 6


def test_best_median_and_worst_are_chosen():
    errors = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6])
    recordings = np.arange(9)[:, None].astype(np.int32)
    chosen = choose(errors, recordings, 2)
    assert [errors[i] for kind, i in chosen if kind == "best"] == [1, 2]
    assert sorted(errors[i] for kind, i in chosen if kind == "median")[0] in (4, 5)
    assert next(errors[i] for kind, i in chosen if kind == "median") == 5
    assert [errors[i] for kind, i in chosen if kind == "worst"] == [9, 8]


def test_examples_come_from_different_recordings_where_they_can():
    errors = np.arange(12.0)
    recordings = np.array([0] * 6 + [1] * 6, np.int32)[:, None]
    chosen = choose(errors, recordings, 3)
    assert [i for kind, i in chosen if kind == "best"] == [0, 6, 1]
    assert [i for kind, i in chosen if kind == "worst"] == [11, 5, 10]


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_few_frames_do(frames):
    chosen = choose(np.arange(float(frames)), np.zeros((frames, 1), np.int32), 4)
    assert [kind for kind, _ in chosen] == ["best", "median", "worst"]
    assert chosen[0][1] == 0
    assert chosen[2][1] == frames - 1


def test_the_front_view_shows_a_person_upright_and_from_the_front():
    upright = {"LeftArm": [0.2, 1.4, 0], "RightArm": [-0.2, 1.4, 0], "LeftUpLeg": [0.1, 0.9, 0]}
    pose = np.zeros((16, 3))
    for name, place in (upright | {"RightUpLeg": [-0.1, 0.9, 0], "LeftHand": [0.2, 1.2, 0.5]}).items():
        pose[JOINTS.index(name)] = place
    world_in_camera = world_to_camera(np.array([0, 1.7, 0.1]), np.array([-70.0, 30, 10]))[:3, :3]
    seen = pose @ world_in_camera.T
    body = body_axes(seen, world_in_camera @ [0.0, 1, 0], SKELETON)
    np.testing.assert_allclose(seen @ body.T, pose, atol=1e-12)
    front, side = (look(seen @ body.T, azimuth) for azimuth in (0.0, -90.0))
    left, right, hand = (JOINTS.index(name) for name in ("LeftArm", "RightArm", "LeftHand"))
    assert front[left, 0] == pytest.approx(0.2)
    assert front[right, 0] == pytest.approx(-0.2)  # the person's right is on the viewer's left
    assert front[left, 1] > front[JOINTS.index("LeftUpLeg"), 1] > 0
    assert side[hand, 0] == pytest.approx(0.5)  # a viewer on the person's right sees the front on the right
