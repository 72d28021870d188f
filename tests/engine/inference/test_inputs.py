"""What people hand in, as a list of files."""

import pytest

from engine.inference.inputs import find_inputs
from loaders import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    hidden = ("._b.png", ".thumbnails/b.png", "more/._b.png", "more/half.partial/b.png")
    for name in ("b.png", "a.JPG", "notes.txt", "clip.mp4", "more/b.png", "more/deep/c.tif", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["."], ["a.JPG", "b.png", "clip.mp4"]),
        (["b.png"], ["b.png"]),
        (["notes.txt"], ["notes.txt"]),  # named outright: whatever it is
        (["*.png"], ["b.png"]),
        (["**/*"], ["a.JPG", "b.png", "clip.mp4", "more/b.png", "more/deep/c.tif"]),
        (["more", "b.png", "more/b.png"], ["more/b.png", "b.png"]),  # no file twice, in the order given
        (["more/**/*.tif"], ["c.tif"]),
        (["more/*/*"], ["c.tif"]),  # nothing that is hidden or half-written
        (
            ["._b.png", ".thumbnails/*", "more/half.partial/b*"],
            ["._b.png", ".thumbnails/b.png", "more/half.partial/b.png"],
        ),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_everything_that_names_images(folder, given, names, absolute):
    found = [str(folder / text) if absolute else text for text in given]
    common, inputs = find_inputs(found)
    assert [given.name for given in inputs] == names
    assert [common / given.name for given in inputs] == [given.path for given in inputs]
    assert [given.is_video for given in inputs] == [name == "clip.mp4" for name in names]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("absent", "absent does not exist"),
        ("*.bmp", "matches no images"),
        ("empty", "empty has no images: expected names that end in .bmp"),
    ],
)
def test_what_names_nothing(folder, given, complaint):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=complaint.replace("*", r"\*")):
        find_inputs([given])
