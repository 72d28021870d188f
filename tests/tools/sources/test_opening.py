"""What a user's class does wrong is one line that says where, and what it did."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.engine.own_files import write_own
from tests.tools.shard_runs import make
from tests.tools.sources.own_data import OWN

WRONG = {
    # what it is
    "name = 3": "name of Description is 3",
    "name = 'a\\nb'": r"its name is 'a\nb', no text that can be printed",
    "camera = None": "camera of Description is None",
    "camera = replace(FRAMES['pinhole'], distortion=[0, 0, 0, 0, 0])": "holds a list where a tuple belongs",
    "camera = replace(FRAMES['pinhole'], fx=np.float32(300))": "float32 is not JSON serializable",
    "skeleton = BODY.joints": "its Skeleton is ",
    "action_groups = {'Moving': 'walk'}": "a group of actions is a text",
    "components = 'rgba'": "its components are 'rgba': give a tuple",
    "components = ('rgba', 'normals')": "its components are ('rgba', 'normals')",
    "def __init__(self, root): self.table = (root / 'joints.csv').read_text()": "joints.csv",
    "def __init__(self, root): raise FrameError('no frame')": "opening ",
    # recordings
    "def recordings(self): return 1 / 0": "looking for recordings: ZeroDivisionError",
    "def recordings(self): return [('train', 'anna')]": "returns as a recording a tuple, not a Recording",
    "def recordings(self): return []": "holds no recordings of train, val, test",
    "def recordings(self): return [Recording('training', 'anna', 'park', self.root)]": "split 'training'",
    "def recordings(self): return [Recording('train', 'an\\nna', 'park', self.root)]": r"names a recording 'an\nna'",
    "def recordings(self): return [Recording('train', 'anna', 7, self.root)]": "names a recording 7",
    "def recordings(self): return 2 * super().recordings()": "has two recordings anna park in train",
    "def recordings(self): return [Walk('train', *n, self.root) for n in (('a-b', 'c'), ('a', 'b-c'))]\n"
    "    def frames(self, recording): return [1]\n"
    "    def labels(self, *_): return FrameLabels(np.ones((15, 3)))": "would share the keys a-b-c-*",
    "def recordings(self): return [Walk('train', 'anna', 'park', self.root, lambda: 2)]": "to another process: ",
    # frames
    "def frames(self, recording): return None": "listing the frames of ",
    "def frames(self, recording): return ['1', '2']": "listing the frames of ",
    "def frames(self, recording): return [11, 10, 11]": "lists frame 11 of ",
    "def frames(self, recording): raise FrameError('none')": "FrameError: none",
    # labels
    "def labels(self, recording, frame): return None": "frame 10 as labels a NoneType, not a FrameLabels",
    "def labels(self, recording, frame): return {}['joints']": "frame 10: KeyError: 'joints'",
    "def labels(self, *_): return FrameLabels(np.ones((16, 3)))": "shape (16, 3); its skeleton wants (15, 3)",
    "def labels(self, *_): return FrameLabels(np.ones((15, 3)), np.ones((15, 3)))": "joints_2d of shape (15, 3)",
    "def labels(self, *_): return FrameLabels('standing')": "frame 10 joints_3d that are no table of numbers",
    "def labels(self, *_): return FrameLabels(np.ones((15, 3)), action=None)": "frame 10 as action a NoneType",
    "def labels(self, *_): raise ValueError('one\\ntwo')": r"ValueError: one\ntwo",
    # images
    "def image(self, recording, frame): return recording.path": "as image a PosixPath, not a bytes",
    "def image(self, recording, frame): return np.zeros((512, 640))": "as image float64 (512, 640): give uint8",
    "def image(self, recording, frame): return open(self.root / 'x.jpg')": "x.jpg",
    # the other component
    "def component(self, *_): return None": "as depth a NoneType, not a bytes",
}


@pytest.mark.parametrize("code", WRONG)
def test_a_mistake_is_one_line(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    wrong = f"from dataclasses import replace\n{textwrap.dedent(OWN)}\n\nclass Wrong(Own):\n    {code}\n"
    source = f"{write_own(tmp_path, wrong)}:Wrong"
    flags = ("--source", source, "--components", "rgba", "depth", "--image-size", "64")
    assert make(frames, tmp_path / "set", *flags) == 2
    said = capsys.readouterr().err
    assert WRONG[code] in said
    assert said.count("\n") == 1
    if "would share" not in said and "holds no recordings" not in said:
        assert said.startswith(f"tools.shard: error: {source}")
    assert not list(tmp_path.rglob("*.tar"))


def test_its_traceback_is_shown_to_who_asks(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = OWN + "\n    class Wrong(Own):\n        def labels(self, recording, frame): return {}['joints']\n"
    assert make(frames, tmp_path / "set", "--source", f"{write_own(tmp_path, wrong)}:Wrong", "--debug") == 2
    assert "def labels(self, recording, frame): return {}['joints']" in capsys.readouterr().err


def test_a_class_that_lacks_a_method_or_is_no_source_is_named(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_own(tmp_path, OWN, ("def image", "def picture"))
    for name, words in (
        (f"{file}:Own", "lacks image: see tools.sources.Source"),
        (f"{file}:Walk", "is not derived from tools.sources.Source"),
        (f"{file}:Other", "has no class Other; it has Walk, Own"),
    ):
        assert make(frames, tmp_path / "set", "--source", name) == 2
        assert words in capsys.readouterr().err
