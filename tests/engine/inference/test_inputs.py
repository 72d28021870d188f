"""What people hand in, as a list of files."""

import zlib

import pytest

from engine.inference.images import read_image
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


def png_beginning(width, height):
    """Return as much of a PNG as is looked at before it is decoded."""
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    header = (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + header + (1).to_bytes(4, "big") + b"IDAT\0"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000)])
def test_an_image_that_claims_to_be_enormous_is_not_decoded(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(png_beginning(width, height))
    assert read_image(tmp_path / "a.png").endswith("images of up to 100 megapixels are read")


def test_an_enormous_file_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate((1 << 30) + 1)  # without taking room on the disk
    assert read_image(tmp_path / "a.png") == "1024 MiB: images of up to 1024 MiB are read"


def test_what_cannot_be_read_is_told(tmp_path):
    assert read_image(tmp_path) == "a folder"
    assert read_image(tmp_path / "absent.png") == "no regular file"
    (tmp_path / "empty.png").touch()
    assert read_image(tmp_path / "empty.png") == "empty"
    (tmp_path / "text.png").write_text("text")
    assert read_image(tmp_path / "text.png") == "not an image, or damaged"
