"""Sheets of tiny shard sets, and what a user reads on them."""

import csv
import json
import re

from engine.evaluate import main as evaluate
from tools.browse import main

FRAMES = 24
"""Of the split that is shown."""


def browse(shards, output, *more):
    flags = ["--shards", shards, "--output", output, "--device", "cpu", "--precision", "fp32", *more]
    return main([str(flag) for flag in flags])


def rows_of(folder, shards, checkpoint):
    flags = ["--checkpoint", checkpoint, "--data.shards", shards, "--split", "val", "--output", folder]
    assert evaluate([*map(str, flags), "--per-frame", "csv", "--device", "cpu", "--precision", "fp32"]) == 0
    with (folder / "per_frame.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def frames_in(sheet):
    """The frames by key, as the page has them."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', sheet.read_text(), re.DOTALL)[1])
    return {frame["key"]: frame for frame in data["frames"]}


def keys(page):
    return page.locator(".sheet .key").all_text_contents()


def said(page):
    return page.locator(".summary").text_content().replace("\u00a0", " ")


def field(page, label):
    return page.get_by_label(label, exact=True)
