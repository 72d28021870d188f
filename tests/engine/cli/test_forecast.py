"""What is known of a folder before it is made, and the two columns that say it."""

import os
from pathlib import Path

import pytest

from engine.cli.forecast import Destination, show
from loaders.errors import InputError
from loaders.system.locks import locked
from tests.dry_runs import read_only, rows, snapshot


def test_a_folder_that_is_not_there_is_judged_by_the_one_above(tmp_path):
    folder = Destination(tmp_path / "a" / "b")
    folder.check()
    assert folder.nearest() == tmp_path
    assert list(folder.warnings(0)) == []
    (warning,) = folder.warnings(1e15)
    assert warning.startswith("1.00 PB are needed") and "give another --output" in warning
    assert Destination(Path("not there")).nearest() == Path()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/below/it", "link", "link/below"])
def test_what_is_in_the_way_is_the_error_that_making_the_folder_raises(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OSError) as told:
        Destination(tmp_path / name).check()
    with pytest.raises(OSError) as real:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert (told.value.errno, told.value.filename) == (real.value.errno, real.value.filename)


@pytest.mark.parametrize("file", ["", ".lock"])
def test_another_runs_lock_is_seen_and_none_is_left(tmp_path, file):
    with locked(tmp_path / "out", file=file):
        before = snapshot(tmp_path)
        with pytest.raises(InputError, match=f"another run is writing {tmp_path}/out"):
            Destination(tmp_path / "out").check(file)
    Destination(tmp_path / "out").check(file)
    assert snapshot(tmp_path) == before
    with locked(tmp_path / "out", file=file):
        pass


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    with read_only(tmp_path / "protected") as folder:
        (warning,) = Destination(folder / "out", "--run-dir").warnings(0)
    assert warning == f"{folder} does not let you write: have it permitted, or give another --run-dir"


def test_long_values_go_on_below_and_names_of_files_cannot_break_lines(capsys):
    show([("subjects", " ".join(["female_001_a_a"] * 20)), ("", ""), ("a\nb", "x\ty")], ["beware"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    assert os.linesep * 2 in said
    assert rows(said) == {
        "dry run": "nothing is written",
        "subjects": " ".join(["female_001_a_a"] * 20),
        "a\\nb": "x\\ty",
        "warning": "beware",
    }
