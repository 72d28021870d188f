"""Sheets, as the command makes them."""

import pytest

from tests.checkpoint_factory import make_checkpoint
from tests.shard_factory import make_shard_set, spoil_images
from tests.tools.browsing.sheets import browse, frames_in, rows_of

pytestmark = pytest.mark.slow


def test_a_lifting_network_needs_no_image_and_is_shown_all_the_same(tmp_path, shards, checkpoints):
    lifting = make_checkpoint(tmp_path / "3d.pt", "train3d")
    assert browse(shards, tmp_path / "sheet.html", "--checkpoint", lifting, checkpoints[0]) == 0
    errors = {key: float(row["mpjpe_mm"]) for key, row in rows_of(tmp_path / "report", shards, lifting).items()}
    frames = frames_in(tmp_path / "sheet.html")
    assert {key: frame["errors"][0] for key, frame in frames.items()} == pytest.approx(errors, abs=1e-2)
    assert "its poses come from the true heatmaps" in (tmp_path / "sheet.html").read_text()


def test_the_same_input_gives_the_same_bytes(tmp_path, sheet, shards, checkpoints):
    assert browse(shards, tmp_path / "sheet.html", "--checkpoint", *checkpoints) == 0
    assert (tmp_path / "sheet.html").read_bytes() == sheet.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, shards, checkpoints):
    flat, lifting = make_checkpoint(tmp_path / "2d.pt", "train2d"), make_checkpoint(tmp_path / "3d.pt", "train3d")
    plain = make_shard_set(tmp_path / "plain", {"val": 2, "test": 0}, components=("json",))
    output, (a, b) = tmp_path / "sheet.html", checkpoints
    cases = (
        ((shards, output, "--order", "worst"), "--order worst goes by a network's errors"),
        ((shards, output, "--checkpoint", a, "--order", "difference"), "--order difference compares two networks"),
        ((shards, output, "--checkpoint", a, b, a), "--checkpoint names 3 files"),
        ((shards, output, "--checkpoint", flat, lifting), "which cannot be compared"),
        ((shards, output, "--checkpoint", tmp_path / "absent.pt"), "absent.pt does not exist"),
        ((shards, tmp_path / "sheet.pdf"), "sheet.pdf does not end in .html"),
        ((shards, output, "--frames", "0"), "--frames is 0: give at least 1"),
        ((shards, output, "--split", "test"), "has no split 'test'"),
        ((plain, output, "--split", "test"), "has no samples"),
        ((plain, output), "holds no rgba"),
        ((tmp_path / "absent", output), "no manifest.json"),
    )
    for arguments, expected in cases:
        assert browse(*arguments) == 2
        complaint = capsys.readouterr().err
        assert expected in complaint
        assert complaint.strip().splitlines()[-1].startswith("tools.browse: error: ")
        assert not output.exists()


def test_an_image_that_cannot_be_decoded_is_named(tmp_path, capsys):
    shards = make_shard_set(tmp_path / "shards", {"val": 3})
    spoil_images(shards, "val", {1})
    assert browse(shards, tmp_path / "sheet.html") == 2
    assert "000002.rgba.jpg at byte" in capsys.readouterr().err
