"""What a user does on the page."""

import json
import re

import numpy as np
import pytest

from models.skeleton import action_group, action_name
from models.xr_egopose import ACTION_GROUPS
from tests.browser import PHONE, visit
from tests.shard_factory import make_shard_set
from tests.tools.browsing.sheets import FRAMES, browse, field, keys, said

pytestmark = pytest.mark.slow


def expected_summary(rows, shown):
    means = [np.mean([float(own[key]["mpjpe_mm"]) for key in shown]) for own in rows]
    number = "" if len(shown) == FRAMES else f"{len(shown)} of "
    return f"{number}{FRAMES} frames, mean error A {means[0]:.1f} mm, B {means[1]:.1f} mm"


def test_each_frame_has_the_errors_that_evaluate_finds(browser, sheet, rows):
    with visit(browser, sheet) as page:
        errors = page.locator(".sheet .error").all_text_contents()
        shown = keys(page)
        assert said(page) == expected_summary(rows, rows[0])
        assert "24 frames" in page.locator("h1 + p").text_content()
        means = [np.mean([float(row["mpjpe_mm"]) for row in own.values()]) for own in rows]
        lines = [" ".join(text.split()) for text in page.locator("h1 ~ p").all_text_contents()]
        for letter, size, mean, line in zip("AB", (64, 128), means, lines[1:3], strict=True):
            described = (
                f"/{letter.lower()}.pt: finetune, resnet18, {size} px; mean error {mean:.1f} mm over all frames."
            )
            assert line.startswith(f"{letter} ")
            assert line.endswith(described)
    assert sorted(shown) == sorted(rows[0])
    assert [float(rows[0][key]["mpjpe_mm"]) for key in shown] == sorted(
        (float(row["mpjpe_mm"]) for row in rows[0].values()), reverse=True
    )
    for key, *pair in zip(shown, errors[::2], errors[1::2], strict=True):
        for letter, text, own in zip("AB", pair, rows, strict=True):
            assert text == f"{letter} {float(own[key]['mpjpe_mm']):.1f}\u00a0mm"


def test_filters_count_and_average_what_they_leave(browser, sheet, rows):
    every = rows[0]
    with visit(browser, sheet) as page:
        field(page, "Action").select_option("Boxing (4)")
        boxing = [key for key, row in every.items() if action_name(row["action"]) == "Boxing"]
        assert sorted(keys(page)) == sorted(boxing)
        assert said(page) == expected_summary(rows, boxing)
        assert field(page, "Action group").locator("option:enabled").all_text_contents() == ["all (4)", "Gaming (4)"]
        subject = every[boxing[0]]["subject"]
        of_subject = [key for key in boxing if every[key]["subject"] == subject]
        field(page, "Subject").select_option(f"{subject} ({len(of_subject)})")
        assert sorted(keys(page)) == sorted(of_subject)
        assert said(page) == expected_summary(rows, of_subject)

        page.get_by_role("button", name="Reset").click()
        assert said(page) == expected_summary(rows, every)
        field(page, "Action group").select_option("no group (3)")
        unknown = [key for key, row in every.items() if action_group(row["action"], ACTION_GROUPS) is None]
        assert sorted(keys(page)) == sorted(unknown)

        page.get_by_role("button", name="Reset").click()
        field(page, "Key").fill("00001")
        assert sorted(keys(page)) == sorted(key for key in every if "00001" in key)
        field(page, "Key").fill("nothing has this")
        assert keys(page) == []
        assert said(page) == f"0 of {FRAMES} frames"
        page.get_by_text("No frame has all of this").get_by_role("button").click()
        assert len(keys(page)) == FRAMES


def test_orders(browser, sheet, rows):
    a, b = ({key: float(row["mpjpe_mm"]) for key, row in own.items()} for own in rows)
    orders = {
        "smallest error of A": a.get,
        "largest error of B": lambda key: -b[key],
        "largest difference": lambda key: -abs(a[key] - b[key]),
        "A better than B": lambda key: a[key] - b[key],
        "B better than A": lambda key: b[key] - a[key],
        "key": lambda key: key,
    }
    with visit(browser, sheet) as page:
        for name, measure in orders.items():
            field(page, "Sort by").select_option(name)
            values = [measure(key) for key in keys(page)]
            assert values == sorted(values)
            assert len(values) == FRAMES


def test_what_is_drawn_can_be_switched_off(browser, sheet):
    with visit(browser, sheet) as page:
        card = page.locator(".sheet .frame").first
        drawn = {
            "truth": card.locator(".true-pose circle").first,
            "prediction": card.locator(".predicted-pose circle").first,
            "bones": card.locator(".true-pose .bone").first,
        }
        for name, shape in drawn.items():
            assert shape.is_visible()
            field(page, name).focus()
            page.keyboard.press("Space")
            assert {other: drawn[other].is_visible() for other in drawn} == {
                other: other != name and not (name == "truth" and other == "bones") for other in drawn
            }
            field(page, name).check()
        assert all(shape.is_visible() for shape in drawn.values())


def test_a_frame_is_enlarged_and_the_keyboard_walks_on(browser, sheet):
    with visit(browser, sheet) as page:
        field(page, "Sort by").select_option("smallest error of B")
        field(page, "Action group").select_option("Gaming (8)")
        shown = keys(page)
        dialog = page.get_by_role("dialog")
        assert not dialog.is_visible()
        page.get_by_role("button", name=f"Enlarge {shown[6]}").focus()
        page.keyboard.press("Enter")
        seen = []
        for press in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
            seen.append(dialog.locator(".key").text_content())
            page.keyboard.press(press)
        assert seen == [shown[6], shown[7], shown[0], shown[7], shown[6]]
        assert dialog.locator(".place").text_content() == "6 of 8"
        dialog.get_by_label("truth", exact=True).uncheck()
        assert not dialog.locator(".true-pose circle").first.is_visible()
        dialog.get_by_role("button", name="Next").click(click_count=2)
        assert dialog.locator(".key").text_content() == shown[7]
        small, large = (page.locator(f"{place} svg").first.bounding_box()["width"] for place in (".sheet", "dialog"))
        assert large > 1.5 * small
        page.keyboard.press("Escape")
        page.locator(f"[aria-label='Enlarge {shown[7]}']:focus").wait_for()
        assert not dialog.is_visible()
        assert field(page, "truth").is_visible()


def test_images_become_larger(browser, sheet):
    with visit(browser, sheet) as page:
        widths = []
        for width in ("100", "300"):
            field(page, "Image width").fill(width)
            widths.append(page.locator(".sheet svg").first.bounding_box()["width"])
        assert widths[0] < 200
        assert widths[1] >= 300


def test_names_are_text(browser, tmp_path, checkpoints):
    hostile = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "\"'&amp;{{ 7 * 7 }}", ""]
    shards = make_shard_set(tmp_path / "<b>shards", {"val": 8}, actions=hostile)
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["subjects"] = ["--><svg onload=alert(3)>"]
    (shards / "manifest.json").write_text(json.dumps(manifest))
    assert browse(shards, tmp_path / "sheet.html", "--checkpoint", checkpoints[0]) == 0
    with visit(browser, tmp_path / "sheet.html") as page:
        assert sorted(page.locator(".sheet .action").all_text_contents()) == sorted(2 * hostile)
        assert "<b>shards, val split" in page.locator("h1").text_content()
        options = field(page, "Action").locator("option").all_text_contents()
        assert options == ["all (8)", *(f"{name} (2)" for name in sorted(hostile))]
        for name in hostile:
            field(page, "Action").select_option(f"{name} (2)")
            assert page.locator(".sheet .action").all_text_contents() == [name] * 2
        assert field(page, "Subject").locator("option").last.text_content() == "--><svg onload=alert(3)> (2)"


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_in_the_light_and_in_the_dark(browser, sheet, dark):
    with visit(browser, sheet, size=PHONE, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        colors = "(body) => ['backgroundColor', 'color'].map((name) => getComputedStyle(body)[name])"
        background, text = (np.mean(rgb(color)) for color in page.locator("body").evaluate(colors))
        assert (background < 40, text > 215) == (dark, dark)
        page.locator(".open").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.evaluate("(shown) => shown.scrollWidth - shown.clientWidth") == 0
        for name in ("Previous", "Next", "Close"):
            box = dialog.get_by_role("button", name=name).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE[0]


def rgb(color):
    return [int(number) for number in re.findall(r"\d+", color)]


def test_without_a_checkpoint_the_sheet_shows_the_split(browser, tmp_path, capsys, shards):
    assert browse(shards, tmp_path / "deep" / "sheet.html", "--frames", "10") == 0
    assert "10 of 24 frames" in capsys.readouterr().out
    with visit(browser, tmp_path / "deep" / "sheet.html") as page:
        assert "10 of 24 frames, spread evenly" in page.locator("h1 + p").text_content()
        assert said(page) == "10 frames"
        shown = keys(page)
        assert shown == sorted(shown)
        assert len(shown) == 10
        assert field(page, "Action").locator("option").count() == 1 + 7
        assert field(page, "Subject").locator("option").count() == 1 + 2
        assert page.locator(".predicted-pose, .error").count() == 0
        assert field(page, "Sort by").locator("option").all_text_contents() == ["key"]
