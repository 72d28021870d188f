"""The poses of the report that can be turned, as a user turns them."""

import json
import re

import cv2
import numpy as np
import pytest

from engine.evaluation.examples import KINDS
from engine.visualization import BLUE, ORANGE
from models.xr_egopose import JOINTS, SKELETON
from tests.browser import DESKTOP, visit
from tests.engine.report.reports import write
from tests.shard_factory import make_shard_set

pytestmark = pytest.mark.slow

NARROW = (360, 780)
MEDIAN = 2
"""The frame that is shown first: the first one of the median."""
LEFT_HAND = JOINTS.index("LeftHand")


def data_in(report):
    text = re.search(r'id="poses">(.*?)</script>', report.read_text(), re.DOTALL)[1]
    return json.loads(text, parse_constant=pytest.fail)  # NaN or an infinity, which a browser would not read


@pytest.fixture(scope="module")
def data(report):
    return data_in(report)


@pytest.fixture
def page(browser, report):
    with visit(browser, report) as opened:
        box(opened)
        yield opened


def drawing(page):
    return page.locator(".drawing > svg")


def box(page):
    """Where the drawing is in the window: x, y and side (pixels)."""
    page.locator(".view").scroll_into_view_if_needed()
    found = drawing(page).bounding_box()
    assert found["width"] == pytest.approx(found["height"], abs=0.1)
    return found["x"], found["y"], found["width"]


def drawn(page, kind):
    """Where a pose's joints are drawn: (16, 2), pixels of the window."""
    circles = """(circles) => circles.map((circle) => {
        const { x, y, width, height } = circle.getBoundingClientRect();
        return [Number(circle.dataset.joint), x + width / 2, y + height / 2];
    })"""
    box(page)
    found = sorted(page.locator(f".drawing > svg circle.{kind}-pose").evaluate_all(circles))
    assert [joint for joint, *_ in found] == list(range(len(JOINTS)))
    return np.array(found)[:, 1:]


def expected(page, data, kind, *, azimuth=25.0, elevation=15.0, frame=MEDIAN):
    """Where they should be: the pose is turned about the vertical, then tilted, and seen from four radii away."""
    shown, half = data["frames"][frame], data["floor"]["half"]
    middle = [0, max(up for _, up, _ in shown["true"]) / 2, 0]
    corners = [[left, 0, front] for left in (-half, half) for front in (-half, half)]
    radius = np.linalg.norm(np.array([*corners, *shown["true"], *shown["predicted"]]) - middle, axis=1).max()
    a, e = np.radians([azimuth, elevation])
    about_vertical = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    right, up, depth = tilt @ about_vertical @ (np.array(shown[kind]) - middle).T
    x, y, side = box(page)
    scale = side / 2 / 1.08 / radius * (4 * radius) / (4 * radius - depth)
    return np.stack([x + side / 2 + scale * right, y + side / 2 - scale * up], axis=1)


def check_drawn(page, data, **angles):
    for kind in ("true", "predicted"):
        np.testing.assert_allclose(drawn(page, kind), expected(page, data, kind, **angles), atol=0.1)


def picture(page):
    return cv2.imdecode(np.frombuffer(page.locator(".drawing").screenshot(), np.uint8), cv2.IMREAD_COLOR_RGB)


def drag(page, right, down):
    x, y, side = box(page)
    page.mouse.move(x + side / 2, y + side / 2)
    page.mouse.down()
    page.mouse.move(x + side / 2 + right / 3, y + side / 2 + down / 3)
    page.mouse.move(x + side / 2 + right, y + side / 2 + down, steps=4)
    page.mouse.up()
    page.mouse.move(x - 9, y + side / 2)  # away: no joint is pointed at


def tip(page):
    return page.locator(".tip").text_content().replace("\u00a0", " ") if page.locator(".tip").is_visible() else None


def test_the_page_has_the_poses_in_whole_millimetres(data, predictions):
    assert tuple(data["joints"]) == JOINTS
    assert [tuple(bone) for bone in data["bones"]] == list(SKELETON.bones)
    assert [frame["kind"] for frame in data["frames"]] == [kind for kind in KINDS for _ in range(2)]
    numbers = {int(re.search(r"-(\d+)$", frame["key"])[1]): frame for frame in data["frames"]}
    rows = {number: row for row, number in enumerate(predictions.meta[:, 2].tolist())}
    for number, frame in numbers.items():
        row = rows[number]
        for kind, pose in (("true", predictions.true_3d[row]), ("predicted", predictions.joints_3d[row])):
            assert all(isinstance(value, int) for joint in frame[kind] for value in joint)
            distances = np.linalg.norm(np.array(frame[kind]) - frame["true"][0], axis=1)
            np.testing.assert_allclose(
                distances, 1000 * np.linalg.norm(pose - predictions.true_3d[row, 0], axis=1), atol=2
            )
        assert min(up for _, up, _ in frame["true"]) == 0  # it stands on the floor
        errors = 1000 * np.linalg.norm(predictions.joints_3d[row] - predictions.true_3d[row], axis=1)
        np.testing.assert_array_equal(frame["errors"], errors.round())
        assert frame["error"] == pytest.approx(errors.mean(), abs=0.06)


def test_a_drag_turns_the_poses_and_reset_turns_them_back(page, data):
    first = picture(page)
    for color in (BLUE, ORANGE):
        assert (first == color).all(2).sum() > 500
    check_drawn(page, data)
    drag(page, 100, 0)
    check_drawn(page, data, azimuth=25 - 50)
    assert "25° right of the person's front, 15° above" in page.locator("#seen").text_content()
    assert (picture(page) != first).any(2).mean() > 0.02
    drag(page, 0, 100)
    check_drawn(page, data, azimuth=25 - 50, elevation=15 + 50)
    drag(page, 0, 200)  # no further than to the top
    check_drawn(page, data, azimuth=25 - 50, elevation=90)
    page.get_by_role("button", name="Back to the first view").click()
    check_drawn(page, data)
    drag(page, -100, -100)
    check_drawn(page, data, azimuth=25 + 50, elevation=15 - 50)
    drawing(page).dblclick(position={"x": 9, "y": 300})
    check_drawn(page, data)
    page.mouse.move(5, 5)
    drawing(page).blur()
    np.testing.assert_array_equal(picture(page), first)


def test_what_is_nearer_is_drawn_later_and_larger(page, data):
    order = "(shapes) => shapes.map((shape) => [shape.dataset.joint, Number(shape.getAttribute('r'))])"
    for angle, sign in ((25 - 90, -1), (25 + 90, 1)):  # from the right side, and from the left
        drag(page, -2 * (angle - 25), 0)
        shown = page.locator(".drawing > svg circle.true-pose").evaluate_all(order)
        place = {JOINTS[int(joint)]: (number, radius) for number, (joint, radius) in enumerate(shown)}
        left = np.array(place["LeftArm"]) - place["RightArm"]
        assert (sign * left > 0).all()
        page.get_by_role("button", name="Back to the first view").click()


def test_the_keyboard_and_the_buttons_do_what_a_drag_does(page, data):
    before = page.evaluate("scrollY")
    page.locator(".choice input:checked").focus()
    page.keyboard.press("Tab")
    assert drawing(page).evaluate("(svg) => svg === document.activeElement")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    check_drawn(page, data, azimuth=25 + 30, elevation=15 + 15)
    page.keyboard.press("+")
    near, far = (
        np.ptp(drawn(page, "true"), axis=0),
        np.ptp(expected(page, data, "true", azimuth=55, elevation=30), axis=0),
    )
    np.testing.assert_allclose(near, 1.25 * far, rtol=1e-3)
    assert page.evaluate("scrollY") == before
    page.keyboard.press("Home")
    check_drawn(page, data)
    names = {"Turn left": "ArrowLeft", "Turn right": "ArrowRight", "Turn up": "ArrowUp", "Turn down": "ArrowDown",
             "Enlarge": "+", "Reduce": "-"}  # fmt: skip
    for name, key in names.items():
        for press in ("+", "+", key):  # so that there is something to reduce
            page.keyboard.press(press)
        wanted = drawn(page, "true")
        page.keyboard.press("Home")
        page.keyboard.press("+")
        page.keyboard.press("+")
        page.get_by_role("button", name=name, exact=True).click()
        np.testing.assert_allclose(drawn(page, "true"), wanted, atol=1e-6)
        drawing(page).focus()
        page.keyboard.press("Home")
    page.keyboard.press("Control+ArrowLeft")  # the browser's own
    check_drawn(page, data)


def test_who_cannot_see_it_is_told(page, data):
    told = page.get_by_role("application", name="True and predicted pose on a floor")
    hints = [page.locator(f"#{name}").text_content() for name in told.get_attribute("aria-describedby").split()]
    assert "arrow keys" in hints[0]
    assert "25° left of the person's front, 15° above" in hints[1]
    errors = data["frames"][MEDIAN]["errors"]
    rows = page.locator(".facts li").all_text_contents()
    assert rows == [f"{name} {error}" for name, error in zip(JOINTS, errors, strict=True)]
    checked = page.get_by_role("radio", checked=True)
    assert checked.evaluate("(radio) => radio.parentElement.textContent").split() == [
        f"{data['frames'][MEDIAN]['error']:.0f}", "mm,", data["frames"][MEDIAN]["key"]]  # fmt: skip


def test_a_joint_that_is_pointed_at_says_its_name_and_error(page, data):
    errors = data["frames"][MEDIAN]["errors"]
    assert tip(page) is None
    both = np.concatenate([drawn(page, "true"), drawn(page, "predicted")])
    apart = np.linalg.norm(both[:, None] - both, axis=-1)
    alone = [i for i, gaps in enumerate(apart) if np.sort(gaps)[1] > 6]
    assert len(alone) > 16
    for i in alone:
        joint = i % len(JOINTS)
        page.mouse.move(*(both[i] + 1))
        assert tip(page) == f"{JOINTS[joint]} {errors[joint]} mm"
        assert page.locator(".facts li.chosen").text_content() == f"{JOINTS[joint]} {errors[joint]}"
    x, y, _ = box(page)
    page.mouse.move(x + 3, y + 60)
    assert tip(page) is None
    page.locator(".facts li").nth(LEFT_HAND).hover()
    assert tip(page) == f"LeftHand {errors[LEFT_HAND]} mm"
    page.mouse.move(5, 5)
    assert tip(page) is None


def test_the_wheel_enlarges_about_the_pointer_once_the_view_is_in_use(page, data):
    hand = drawn(page, "true")[LEFT_HAND]
    page.mouse.move(*hand)
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, -50)  # somebody who scrolls the page
    page.wait_for_function("(before) => scrollY < before", arg=before)
    check_drawn(page, data)
    hand = drawn(page, "true")[LEFT_HAND]
    page.mouse.click(*hand)
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('#seen').textContent.includes('enlarged 2.7')")
    np.testing.assert_allclose(drawn(page, "true")[LEFT_HAND], hand, atol=1.5)  # events have whole pixels
    assert page.evaluate("scrollY") == before
    page.mouse.wheel(0, 4000)  # smaller than at first it does not get
    page.wait_for_function("document.querySelector('#seen').textContent.includes('enlarged 1.0')")
    check_drawn(page, data)


@pytest.mark.parametrize("size", [NARROW, DESKTOP])
def test_fingers_turn_enlarge_and_tap(browser, report, data, size):
    with visit(browser, report, size=size) as page:
        client = page.context.new_cdp_session(page)
        client.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})

        def touch(kind, *places):
            points = [{"x": float(x), "y": float(y), "id": i} for i, (x, y) in enumerate(places)]
            client.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

        x, y, side = box(page)
        x, y = x + side / 2, y + side / 2
        touch("Start", (x, y))
        for step in (20, 40, 60):
            touch("Move", (x + step, y))
        touch("End")
        azimuth = float(re.search(r"from (\d+)°", page.locator("#seen").text_content())[1])
        assert azimuth <= 25  # a browser may keep the first pixels of a touch to itself
        check_drawn(page, data, azimuth=25 - 30)
        touch("Start", (x - 20, y), (x + 20, y))
        for step in (30, 40):
            touch("Move", (x - step, y), (x + step, y))
        touch("End")
        assert "enlarged 2.0" in page.locator("#seen").text_content()
        page.get_by_role("button", name="Back to the first view").click()
        hand = drawn(page, "predicted")[LEFT_HAND]
        touch("Start", hand)
        touch("End")
        assert tip(page) == f"LeftHand {data['frames'][MEDIAN]['errors'][LEFT_HAND]} mm"


def test_every_chosen_frame_can_be_turned(page, data):
    drag(page, 100, 0)
    for number, frame in enumerate(data["frames"]):
        page.locator(".choice label").nth(number).click()
        check_drawn(page, data, azimuth=25 - 50, frame=number)
        caption = f"{frame['kind']}, {frame['error']:.1f} mm: {frame['action']}, {frame['key']}"
        assert page.locator(".facts .caption").text_content() == caption
    buttons = page.get_by_role("button", name="Turn in 3D")
    assert buttons.count() == len(data["frames"])
    for number in (4, 1):
        buttons.nth(number).click()
        check_drawn(page, data, azimuth=25 - 50, frame=number)
        assert page.locator(".choice input:checked").get_attribute("value") == str(number)
        assert page.evaluate("document.activeElement.getAttribute('role')") == "application"
        source = page.locator("figure .overlay").nth(number).get_attribute("src")
        assert page.locator(".facts img").get_attribute("src") == source


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_phone_shows_it_whole(browser, report, data, dark):
    with visit(browser, report, size=NARROW, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
        check_drawn(page, data)
        assert (np.median(picture(page)) < 60) == dark
        for joint in range(len(JOINTS)):
            page.locator(".facts li").nth(joint).hover()
            label = page.locator(".tip").bounding_box()
            x, y, side = box(page)
            assert x <= label["x"] <= x + side - label["width"]
            assert y <= label["y"] <= y + side - label["height"]
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
        for control in page.locator(".controls button, .choice label").all():
            place = control.bounding_box()
            assert min(place["width"], place["height"]) >= 24
            assert place["x"] + place["width"] <= NARROW[0]


def test_without_javascript_and_in_print_the_still_views_remain(browser, report):
    def seen(page):
        return page.locator(".view").is_visible(), page.locator(".turn").first.is_visible(), len(
            [image for image in page.locator("figure.frame img").all() if image.is_visible()])  # fmt: skip

    with visit(browser, report) as page:
        assert seen(page) == (True, True, 2 * 6)
        page.emulate_media(media="print")
        assert seen(page) == (False, False, 2 * 6)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert seen(page) == (False, False, 2 * 6)
    context.close()


def test_a_view_without_images(browser, tmp_path, predictions):
    shards = make_shard_set(tmp_path / "shards", {"train": 4, "test": 9}, image_size=128, components=("json",))
    path, _ = write(tmp_path / "report", shards, predictions)
    with visit(browser, path) as page:
        check_drawn(page, data_in(path))
        assert not page.locator(".facts img").is_visible()
