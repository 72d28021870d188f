"""The README's ratios are those of the published results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import RESULTS
from benchmarks.headline import HEADLINES, main, read, to_markdown

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_what_was_published():
    found = read(RESULTS)
    assert len(found) == len(HEADLINES)
    assert to_markdown(found) in README.read_text()
    for one in found:
        assert (RESULTS / f"{one.headline.result}.md").is_file()


def test_ratios_are_those_of_the_laps():
    candidates = json.loads((RESULTS / "training.json").read_text())["candidates"]
    rates = {one["name"]: one["rates"] for one in candidates}
    (all_stages,) = [one for one in read(RESULTS) if one.headline.what.startswith("training")]
    stages = ("train2d resnet18", "train3d", "finetune resnet18")
    seconds = [
        [sum(1 / rates[f"{stage}{way}"][lap] for stage in stages) for lap in range(5)]
        for way in (", reference way", " bf16, shards")
    ]
    assert all_stages.ratio == pytest.approx(np.median(np.divide(*seconds)))
    assert all_stages.low <= all_stages.ratio <= all_stages.high


def test_what_was_not_measured_is_skipped(tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    content = json.loads((results / "scaling.json").read_text())
    content["candidates"][0]["rates"] = []
    (results / "scaling.json").write_text(json.dumps(content))
    (results / "headline.png").unlink()
    assert main(["--results", str(results)]) == 0
    said = capsys.readouterr().out
    assert "one alone" not in said
    assert "webdataset" in said
    assert (results / "headline.png").stat().st_size > 1000
