"""What the parser says and reads, for every command."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.cli.command import Command, parse
from engine.evaluate import main as evaluate
from engine.infer import main as infer
from engine.train import main as train
from loaders import InputError
from tools.export import main as export
from tools.shard import main as shard
from tools.validate import main as validate


@dataclass(frozen=True, kw_only=True)
class Flags(Command):
    """A bit of everything."""

    root: Path
    names: tuple[str, ...] = ()
    report: Path | None = None
    frames_per_subject: int = 1
    rate: float | None = None
    backbone: str | None = None


def parsed(text):
    return parse(Flags, shlex.split(text), program="tools.flags", description="Flags.")


def said(text):
    with pytest.raises(InputError) as error:
        parsed(text)
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "--root is missing; for example: python -m tools.flags --root ROOT"),
        (
            "--rate 3 --names 'a b'",
            "--root is missing; for example: python -m tools.flags --rate 3 --names 'a b' --root ROOT",
        ),
        ("--rooot x", "--rooot is no flag: did you mean --root?"),
        ("--root x --frames-per=3", "--frames-per is no flag: did you mean --frames-per-subject?"),
        ("--root x '--a\nb'", r"--a\nb is no flag: --help lists all"),
        ("--names 'a\nb'", r"--root is missing; for example: python -m tools.flags --names 'a\nb' --root ROOT"),
        (
            "--root x --frames-per-subject 9223372036854775808",
            "--frames-per-subject is '9223372036854775808': give a whole number",
        ),
        ("--root x --qqq", "--qqq is no flag: --help lists all"),
        ("--root x y", "'y' after x is one argument too many: switches take no value, values with spaces need quotes"),
        ("a=b", "'a=b' is one argument too many: switches take no value, values with spaces need quotes"),
        ("--root x --rate", "--rate has no value: give --rate FLOAT"),
        ("--root x --rate fast", "--rate is 'fast': give a finite number"),
        ("--root x --rate nan", "--rate is 'nan': give a finite number"),
        ("--root x --rate=-inf", "--rate is '-inf': give a finite number"),
        ("--root x --frames-per-subject 1.5", "--frames-per-subject is '1.5': give a whole number"),
        ("--root x --frames-per-subject 1e400", "--frames-per-subject is '1e400': give a whole number"),
        ("--root ''", "--root is '': give a path"),
        ("--root ~nobody-here/x", "--root is '~nobody-here/x', and that home folder is unknown: give its path"),
    ],
)
def test_what_is_wrong_is_one_plain_sentence(given, sentence):
    assert said(given) == sentence


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_no_message_is_wrapped_or_cut_inside_a_path(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    path = "/" + "/".join(["a long folder name"] * 20)
    assert said(f"--names '{path}'").endswith(f"--names '{path}' --root ROOT")
    assert f"'{path}' after x is one argument too many" in said(f"--root x '{path}'")
    assert f"is '{path}': give a finite" in said(f"--root x --rate '{path}'")


def test_numbers_are_read_as_a_person_reads_them():
    assert parsed("--root x --frames-per-subject 1_000").frames_per_subject == 1000
    assert parsed("--root x --frames-per-subject 2.0").frames_per_subject == 2
    assert parsed("--root x --rate 1e-3").rate == 0.001
    assert parsed("--root x --rate None").rate is None


def test_home_folders_are_expanded_in_all_paths_and_patterns(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of us")
    flags = parsed("--root='~/in' --report '~' --names '~/*.png' b~ s3://c/~d --backbone '~/w.pt'")
    assert flags.root == Path("/home/of us/in")
    assert flags.report == Path("/home/of us")
    assert flags.names == ("/home/of us/*.png", "b~", "s3://c/~d")
    assert flags.backbone == "/home/of us/w.pt"
    assert parsed("--root ~root/x").root == Path("~root/x").expanduser()
    assert parsed("--root a/~/b").root == Path("a/~/b")


@pytest.mark.parametrize(
    ("main", "name", "start"),
    [
        (
            evaluate,
            "evaluate",
            "python engine/evaluate.py --checkpoint CHECKPOINT --output OUTPUT --data.shards SHARDS",
        ),
        (infer, "infer", "python engine/infer.py --checkpoint CHECKPOINT --input INPUT --output OUTPUT"),
        (export, "tools.export", "python -m tools.export --checkpoint CHECKPOINT --output OUTPUT"),
        (shard, "tools.shard", "python -m tools.shard --dataset DATASET --output OUTPUT"),
        (validate, "tools.validate", "python -m tools.validate --dataset DATASET"),
    ],
)
def test_a_command_without_arguments_says_what_to_type(capsys, main, name, start):
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: error: --")
    assert said.endswith(f" missing; for example: {start}\n")


def test_train_without_arguments_says_what_is_missing_and_one_example(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train"])
    assert train() == 2
    assert capsys.readouterr().err == (
        "train: error: --stage, --run-dir and --data.shards are missing; for example: "
        "python engine/train.py --config configs/train2d.yaml --data.shards SHARDS --run-dir runs/2d\n"
    )
