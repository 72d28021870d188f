"""The rates and ratios of README.md and of benchmarks/README.md are those of the published results."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.gpu import journal
from benchmarks.harness import RESULTS, interval, rates_in_turn, ratios

ROOT = Path(__file__).resolve().parents[2]
FRONT = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks/README.md").read_text()
STAGES = ("train2d resnet18", "train3d", "finetune resnet18")


@dataclass(frozen=True)
class Comparison:
    """Candidates of a published result; an item goes through all of a side, one after the other."""

    result: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    on_the_front: bool = False
    """It stands in README.md as well."""

    def rates(self):
        return published(self.result, self.ours)

    def ratios(self):
        return ratios(self.rates(), published(self.result, self.theirs))


def sharding(pngs, **more):
    return Comparison("sharding", (f"tools.shard, {pngs}",), (f"plain way, {pngs}",), **more)


COMPARISONS = {
    "shard, over Pillow": sharding("libpng RGBA", on_the_front=True),
    "shard generated frames, over Pillow": sharding("generated"),
    "train all stages, over the reference way": Comparison(
        "training",
        tuple(f"{stage} bf16, shards" for stage in STAGES),
        tuple(f"{stage}, reference way" for stage in STAGES),
        on_the_front=True,
    ),
    "train3d, over a cached batch, the upper bound": Comparison(
        "train3d/training", ("train3d fp32, shards",), ("train3d fp32, resident",), on_the_front=True
    ),
    "each of two processes, over one alone": Comparison("scaling", ("2 processes",), ("1 process",), on_the_front=True),
}
"""By the first column of the tables."""

PROCESSORS = ("loader", "avx2/loader")
"""Results of `benchmarks.loader`: with all instructions of the processor, and with those of `benchmarks/avx2.env`."""
PEERS = {
    "DALI's own reader": ("DALI reader", "JPEG"),
    "SPDL": ("SPDL", "JPEG"),
    "Grain": ("Grain", "JPEG"),
    "torch DataLoader": ("torch DataLoader", "JPEG"),
    "webdataset": ("webdataset", "JPEG"),
    "LitData": ("LitData", "JPEG"),
    "MosaicML Streaming": ("MosaicML", "JPEG"),
    "datago": ("datago", "JPEG"),
    "FFCV, both by the fast DCT": ("FFCV JPEG", "JPEG by the fast DCT"),
    "FFCV, raw images": ("FFCV raw", "raw"),
}
"""Rows of the table of loading: another loader, and what both read."""
ON_THE_FRONT = {
    "load JPEGs, over webdataset": "webdataset",
    "load JPEGs, over torch DataLoader": "torch DataLoader",
    "load JPEGs, over DALI's own reader": "DALI's own reader",
    "load JPEGs, over FFCV, both by the fast DCT": "FFCV, both by the fast DCT",
    "load raw shards, over FFCV": "FFCV, raw images",
}
"""Rows of README.md, to bytes: the worse of the two processors."""


def read(result):
    return json.loads((RESULTS / f"{result}.json").read_text())


def loading(result, row, dtype):
    """The verdict on a row of the table of loading."""
    peer, stored = PEERS[row]
    what = f"best backend, {stored} to {dtype}, over {peer}"
    (found,) = (one for one in read(result)["rows"] if one["what"] == what)
    return found


def published(result, names):
    content = read(result)
    rates = {one["name"]: one["rates"] for one in content["candidates"]}
    return rates_in_turn([rates[name] for name in names])


def table(text, heading):
    """The cells of the first table below a heading, by those of the first column without their links."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.search(r"^\|.*\n\|[-|: ]+\n((?:\|.*\n)+)", section, re.MULTILINE).group(1).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", first): others for first, *others in cells}


def rounded(rate):
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def test_the_front_page_shows_what_was_published():
    expected = {what: [f"{median(row.ratios()):.3g}"] for what, row in COMPARISONS.items() if row.on_the_front}
    for what, row in ON_THE_FRONT.items():
        expected[what] = [f"{min(loading(result, row, 'uint8')['value'] for result in PROCESSORS):.3g}"]
    assert table(FRONT, "Speed") == expected


def test_the_rows_of_loading_show_what_was_published():
    expected = {
        row: [
            "{value:.3g} ({low:.3g} to {high:.3g})".format(**loading(result, row, dtype))
            for dtype in ("uint8", "float32")
            for result in PROCESSORS
        ]
        for row in PEERS
    }
    assert table(BENCHMARKS, "Loading") == expected


def test_the_second_result_of_loading_was_limited():
    hardware = [read(result)["hardware"] for result in PROCESSORS]
    assert hardware[0]["cpu"] == hardware[1]["cpu"]
    limits = dict(line.split("=", 1) for line in (ROOT / "benchmarks/avx2.env").read_text().splitlines())
    assert [one["limits"] for one in hardware] == [{}, limits]


def test_the_full_rows_show_what_was_published():
    expected = {}
    for what, row in COMPARISONS.items():
        low, high = interval(row.ratios(), 0)
        expected[what] = [rounded(median(row.rates())), f"{median(row.ratios()):.3g} ({low:.3g} to {high:.3g})"]
    assert table(BENCHMARKS, "Full rows") == expected


ON_A_GPU = {
    "train2d, ResNet-50": "train2d bf16 eager graph",
    "train2d, ResNet-101": "train2d larger backbone bf16 eager graph",
    "train3d": "train3d bf16 default graph",
}
"""Rows of README.md, and the trainings of the GPU suite."""


def test_the_rows_of_a_gpu_are_those_of_the_suite():
    _, lines = journal.read(RESULTS / "gpu")
    found = {line["step"].removeprefix("training: "): line["figures"] for line in lines if "figures" in line}
    shown = dict(re.findall(r"^\| (train[23]d.*?) \| (.*) \|$", FRONT.partition("On one NVIDIA H200")[2], re.MULTILINE))
    expected = {}
    for row, training in ON_A_GPU.items():
        rates, cached = found[training]["images/s"], found[training]["images/s, cached batch"]
        expected[row] = f"{rounded(median(rates))} | {median(ratios(rates, cached)):.3f}"
    assert shown == expected


def test_rates_of_training_in_the_text_are_those_of_the_table():
    rate = rounded(median(COMPARISONS["train all stages, over the reference way"].rates()))
    assert f"two cores train {rate} images/s through three small networks" in " ".join(FRONT.split())


def test_rates_of_loading_in_the_text_are_those_of_the_slower_processor():
    words = " ".join(FRONT.split())
    for sentence, ours in (
        ("{} images/s from JPEGs of 68 kB", "ours torch, uint8"),
        ("{} images/s from raw shards", "ours torch raw, uint8"),
    ):
        slower = min(median(published(result, (ours,))) for result in PROCESSORS)
        assert sentence.format(rounded(slower)) in words


def test_the_memory_of_a_loader_process_is_what_was_published():
    processes = json.loads((RESULTS / "memory.json").read_text())["processes"]
    peak = max(one["peak"] for one in processes) / 1024
    growth = max(one["growth"]["anonymous"][0] for one in processes)
    words = " ".join(FRONT.split())
    assert f"holds {peak:.2f} GiB at most and grows by less than 0.02 MiB per epoch" in words
    assert 0.01 < growth < 0.02
