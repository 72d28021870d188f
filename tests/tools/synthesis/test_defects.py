"""The faults that ``tools.synthesize --defects`` plants, through validation and sharding."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engine.cli.command import CHECK_FAILED, OK
from loaders.format.shard_set import ShardSet
from tests.tools.shard_runs import make
from tools import synthesize, validate
from tools.dataset.layout import find_recordings, read_labels
from tools.sources.source import FrameError
from tools.synthesis.defects import DEFECTS_FILE, FEWEST_FRAMES, INCOMPLETE, MISALIGNED, Defect
from tools.synthesis.writer import MODALITIES

pytestmark = pytest.mark.slow

SUBJECTS = (INCOMPLETE, *MISALIGNED[:2])
NUMBERS = range(1, FEWEST_FRAMES + 1)

NAMED = {
    ("rgba", "truncated"): "rgba undecodable: cut short",
    ("rgba", "empty"): "rgba undecodable: the file is empty",
    ("rgba", "damaged"): "rgba undecodable: damaged",
    ("rgba", "wrong size"): "rgba is 640x400, not 1280x800",
    ("json", "truncated"): "not JSON",
    ("json", "empty"): "json file is empty",
    ("json", "action missing"): "no key action",
    ("json", "LeftFoot missing"): "no joint LeftFoot",
    ("json", "pts2d_fisheye null"): "pts2d_fisheye lacks values",
    ("json", "pts3d_fisheye null"): "pts3d_fisheye lacks values",
    ("json", "pts3d_fisheye infinite"): "pts3d_fisheye lacks values",
    ("json", "pts2d_fisheye column missing"): "pts2d_fisheye has shape (2, 66), not (2, 67)",
    ("json", "pts3d_fisheye column missing"): "pts3d_fisheye has shape (3, 66), not (3, 67)",
    ("json", "pts3d_fisheye empty"): "pts3d_fisheye has shape (3, 0), not (3, 67)",
    ("json", "pts2d_fisheye off the camera model"): "2D labels more than 1 pixel off the camera model",
    ("worldp", "truncated"): "worldp undecodable: cut short",
    **{(modality, "missing"): f"no {modality} file" for modality in MODALITIES if modality != "rot"},
}
"""What validation and the manifest call each planted fault."""

HARMLESS = {
    ("rot", "missing"): "no rot file",
    ("json", "char_height null"): "char_height is null",
    ("json", "pts2d_fisheye null in an unused joint"): (
        "pts2d_fisheye lacks values of joints that training does not use"
    ),
}
"""What validation notes without calling it a fault."""

Kind = tuple[str, str]


@dataclass(frozen=True)
class Planted:
    """What defects.json lists."""

    root: Path
    defects: list[Defect]

    def numbers(self, subject: str, names: dict[Kind, str]) -> dict[str, list[int]]:
        """A subject's frames by the name of their fault."""
        found = defaultdict(list)
        for one in sorted(self.defects, key=lambda one: one.frame):
            if one.subject == subject and (one.modality, one.fault) in names:
                found[names[one.modality, one.fault]].append(one.frame)
        return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted") / "dataset"
    flags = ("--frames-per-subject", str(FEWEST_FRAMES), "--subjects", *SUBJECTS, "--defects", "--workers", "2")
    assert synthesize.main(["--output", str(root), *flags]) == OK
    return Planted(root, [Defect(**one) for one in json.loads((root / DEFECTS_FILE).read_text())])


def test_every_kind_of_fault_is_planted(planted: Planted) -> None:
    assert {(one.modality, one.fault) for one in planted.defects} == NAMED.keys() | HARMLESS.keys()
    assert {one.subject for one in planted.defects} == set(SUBJECTS)


def test_every_file_is_as_the_list_says(planted: Planted) -> None:
    defects = {(one.subject, one.frame, one.modality): one for one in planted.defects}
    assert len(defects) == len(planted.defects)
    for recording in find_recordings(planted.root):
        for modality in MODALITIES:
            for frame in NUMBERS:
                defect = defects.pop((recording.subject, frame, modality), None)
                path = recording.file(modality, frame)
                assert path.exists() == (defect is None or defect.fault != "missing")
                if path.exists() and modality != "rot":
                    check_content(path.read_bytes(), modality, defect)
    assert not defects


def check_content(content: bytes, modality: str, defect: Defect | None) -> None:
    fault = defect.fault if defect else ""
    assert (len(content) == 0) == (fault == "empty")
    if modality == "json":
        assert (b'"char_height":null' in content) == (fault == "char_height null")
        if defect and not defect.usable:
            with pytest.raises(FrameError):
                read_labels(content)
        else:
            read_labels(content)
    elif content:
        assert content.endswith(b"IEND\xaeB`\x82") == (fault != "truncated")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        whole = image is not None and image.shape[:2] == (800, 1280)
        assert whole or fault in ("truncated", "damaged", "wrong size")


def test_validation_finds_what_was_planted_and_nothing_else(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", str(planted.root), "--deep", "--report", str(tmp_path / "report.json")]
    assert validate.main(flags) == CHECK_FAILED
    report = json.loads((tmp_path / "report.json").read_text())
    totals: Counter[str] = Counter()
    for recording in report["recordings"]:
        subject = recording["subject"]
        expected = planted.numbers(subject, NAMED)
        assert counted(recording["faults"]) == expected
        assert counted(recording["notes"]) == planted.numbers(subject, HARMLESS)
        totals.update({reason: len(numbers) for reason, numbers in expected.items()})
        missing = Counter(one.modality for one in planted.defects if (one.subject, one.fault) == (subject, "missing"))
        assert recording["counts"] == {name: FEWEST_FRAMES - missing[name] for name in MODALITIES}
        equal = any({"rgba", "json"} <= set(group) for group in recording["misaligned"])
        assert equal == (subject in MISALIGNED)
    assert report["faults"] == totals
    said = capsys.readouterr().out
    assert all(name in said for name in (*NAMED.values(), *HARMLESS.values()))


def counted(findings: dict[str, Any]) -> dict[str, list[int]]:
    assert all(found["count"] == len(found["frames"]) for found in findings.values())
    return {reason: found["frames"] for reason, found in findings.items()}


@pytest.mark.parametrize("components", [("rgba", "json"), ("rgba", "json", "worldp"), ("json",)])
def test_sharding_leaves_out_the_unusable_frames_and_no_other(
    planted: Planted, tmp_path: Path, components: tuple[str, ...]
) -> None:
    reasons = defaultdict(list)
    for modality in ("json", "rgba", "worldp"):
        for one in planted.defects:
            if one.modality == modality in components and (modality == "worldp" or not one.usable):
                reasons[one.subject, one.environment, one.frame].append(NAMED[modality, one.fault])
    output = tmp_path / "set"
    flags = ("--image-size", "64", "--samples-per-shard", "16", "--components", *components)
    assert make(planted.root, output, *flags, workers=2) == OK
    split = ShardSet(output, "train", checksums=True)
    skipped = {
        # a JSON's error goes on to say where in the file
        (one.subject, one.environment, one.frame): re.sub("^not JSON: .*", "not JSON", one.reason)
        for one in split.manifest.splits["train"].skipped
    }
    assert skipped == {frame: ", ".join(said) for frame, said in reasons.items()}
    stored = [
        (split.manifest.subjects[subject], split.manifest.environments[environment], frame)
        for subject, environment, frame, _ in split.meta(range(len(split))).tolist()
    ]
    everything = {(subject, "env_001", frame) for subject in SUBJECTS for frame in NUMBERS}
    assert sorted(stored) == sorted(everything - skipped.keys())
