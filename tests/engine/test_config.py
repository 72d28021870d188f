import dataclasses
import math
from pathlib import Path

import pytest
import yaml

from engine.checkpoint.checkpointer import CheckpointConfig
from engine.cli.flags import keys_of
from engine.config import TrainConfig, flatten, ignored_values, parse_train, to_plain, used_values
from engine.distributed import DistributedConfig
from engine.optimizer import OptimConfig
from engine.stages import ModelConfig
from engine.training.consistency import PER_NODE
from loaders import DataConfig, InputError
from loaders.augment import AugmentConfig
from models.losses import LossWeights

NEEDED = ["--stage", "train2d", "--run-dir", "runs/x", "--data.shards", "shards"]
CONFIGS = sorted(Path("configs").rglob("*.yaml"))
RUN = "stage: train2d\nrun_dir: runs/x\n"


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return ["--config", str(path)]


def read(tmp_path, text, *flags):
    """Parse a file, which may lack the shards."""
    return parse_train([*write(tmp_path / "c.yaml", text), "--data.shards", "shards", *flags])


def refusal(tmp_path, text, *flags):
    with pytest.raises(InputError) as error:
        read(tmp_path, text, *flags)
    return str(error.value).replace(f"{tmp_path}/", "")


def test_the_command_line_wins_over_the_file(tmp_path):
    file = write(
        tmp_path / "c.yaml",
        "stage: train3d\nresume: true\nmax_steps: null\ndata:\n  batch_size: 7\n"
        "  augment:\n    rotation: 12.5\noptim: {lr: 0.5, name: sgd}\n",
    )
    config = parse_train([*file, *NEEDED, "--optim.lr", "0.25"])
    assert config.stage == "train2d"
    assert config.resume
    assert config.max_steps is None
    assert config.data.batch_size == 7
    assert config.data.augment.rotation == 12.5
    assert (config.optim.name, config.optim.lr) == ("sgd", 0.25)
    assert not parse_train([*file, *NEEDED, "--no-resume"]).resume


def test_the_command_line_mends_what_the_file_sets_out_of_range(tmp_path):
    assert read(tmp_path, RUN + "epochs: 0\noptim: {name: lamb}\n", "--epochs", "2", "--optim.apex").epochs == 2


def test_a_flag_of_several_values_is_a_list_in_a_file(tmp_path):
    for text, values in (("[]", ()), ("tensorboard", ("tensorboard",)), ("[tensorboard]", ("tensorboard",))):
        assert read(tmp_path, f"{RUN}log: {{to: {text}}}\n").log.to == values
    assert read(tmp_path, f"{RUN}log: {{to: [tensorboard]}}\n", "--log.to").log.to == ()
    message = "c.yaml, line 3: log.to is 'board': give tensorboard, wandb, mlflow or trackio"
    assert refusal(tmp_path, f"{RUN}log: {{to: [tensorboard, board]}}\n") == message


def test_the_last_of_several_files_counts(tmp_path):
    (tmp_path / "first.yaml").write_text("epochs: many\n")
    assert read(tmp_path, RUN + "epochs: 9\n", f"--config={tmp_path / 'c.yaml'}").epochs == 9
    assert parse_train(["--config", "absent", *write(tmp_path / "c.yaml", "epochs: 7\n"), *NEEDED]).epochs == 7


MEANINGS = {
    "compile: off": ("compile", "off"),
    "data: {on-bad-sample: skip}": ("data.on_bad_sample", "skip"),
    "resume: yes": ("resume", True),
    "resume: On": ("resume", True),
    "resume: 'true'": ("resume", True),
    "resume: no": ("resume", False),
    "optim: {lr: 1e-3}": ("optim.lr", 0.001),
    "optim: {lr: 1}": ("optim.lr", 1.0),
    "optim: {lr: '0.5'}": ("optim.lr", 0.5),
    "optim: {weight-decay: 0.1}": ("optim.weight_decay", 0.1),
    "optim.lr: 0.002": ("optim.lr", 0.002),
    "data.augment: {horizontal_flip: 0.5}": ("data.augment.horizontal_flip", 0.5),
    "epochs: 1_000": ("epochs", 1000),
    "epochs: 2.0": ("epochs", 2),
    "epochs: 1e3": ("epochs", 1000),
    "seed: 010": ("seed", 10),
    "optim:": ("optim.lr", 0.001),
    "data:\n  augment:\nmodel: ~": ("model.backbone", "resnet50"),
    "max_steps: ~\nload_2d: None": ("max_steps", None),
    "model: {pretrained: null}": ("model.pretrained", None),
    "model: {pretrained: 'null'}": ("model.pretrained", "null"),
    "model: {pretrained: off}": ("model.pretrained", "off"),
    "load_2d: 2024-01-31": ("load_2d", Path("2024-01-31")),
    "load_2d: 007": ("load_2d", Path("007")),
    "load_2d: 1:30": ("load_2d", Path("1:30")),
    "load_2d: yes": ("load_2d", Path("yes")),
    "load_2d: ~root/a.pt": ("load_2d", Path("~root/a.pt").expanduser()),
    "load_2d: a/~": ("load_2d", Path("a/~")),
    "model: {pretrained: ~root/w.pt}": ("model.pretrained", str(Path("~root/w.pt").expanduser())),
    "data: &d {batch_size: 8}\noptim: {grad_accum_steps: 8}": ("data.batch_size", 8),
    "data: {prefetch: &two 2, threads: *two}": ("data.threads", 2),
    "optim: {<<: {lr: 3, max_grad_norm: 2}, lr: 4}": ("optim.lr", 4.0),
    "optim: {<<: [{lr: 5}, {lr: 6, max_grad_norm: 2}]}": ("optim.lr", 5.0),
    "# only a comment": ("epochs", 3),
    "---\nepochs: 4\n...": ("epochs", 4),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_yaml_means_what_it_looks_like(tmp_path, text):
    key, meant = MEANINGS[text]
    value = read(tmp_path, text, *NEEDED)
    for name in key.split("."):
        value = getattr(value, name)
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.parametrize(
    "content",
    [b"", b"# nothing yet\n", b"\n---\n", b"\xef\xbb\xbfepochs: 3\n", b"epochs: 3\r\noptim:\r\n  lr: 1e-3\r\n"],
)
def test_files_as_editors_leave_them(tmp_path, content):
    assert dataclasses.replace(read(tmp_path, content, *NEEDED), config=None) == parse_train(NEEDED)


REFUSED = {
    "epochs: 3\nepochs: 4\n": "line 4: epochs is set again, after line 3: keep one",
    "data: {seed: 1}\ndata: {threads: 2}\n": "line 4: data is set again, after line 3: keep one",
    "data.augment:\n  contrast: 0\n  contrast: 1\n": (
        "line 5: data.augment.contrast is set again, after line 4: keep one"
    ),
    "optim: {ema: 0.9}\noptim.ema: 0.8\n": "line 4: optim.ema is set again, after line 3: keep one",
    "load-2d: a\nload_2d: a\n": "line 4: load_2d is set again, after line 3: keep one",
    "data:\n  batchsize: 3\n": "line 4: data.batchsize is no key: did you mean data.batch_size?",
    "lr: 3\n": "line 3: lr is no key: did you mean optim.lr?",
    "optim: {seed: 3}\n": "line 3: optim.seed is no key: did you mean data.seed or seed?",
    '"a\\nb": 3\n': "line 3: a\\nb is no key: --help lists all",
    "epochs: 99999999999999999999\n": "line 3: epochs is '99999999999999999999': give a whole number",
    "zzz: 3\n": "line 3: zzz is no key: --help lists all",
    "[a, b]: 3\n": "line 3: a key is a single word",
    "a: &a {b: *a}\n": "line 3: a is no key: --help lists all",
    "epochs: many\n": "line 3: epochs is 'many': give a whole number",
    "epochs: 1.5\n": "line 3: epochs is '1.5': give a whole number",
    "seed: 1:30\n": "line 3: seed is '1:30': give a whole number",
    "epochs: [1]\n": "line 3: epochs takes one value: give it without brackets",
    "epochs: {a: 1}\n": "line 3: epochs takes one value: give it without brackets",
    "epochs:\n": "line 3: epochs has no value: give one, or leave the line out",
    "resume: 1\n": "line 3: resume is '1': give true or false",
    "compile: ''\n": "line 3: compile is '': give auto, off, default, reduce-overhead or max-autotune",
    "compile: on\n": "line 3: compile is 'on': give auto, off, default, reduce-overhead or max-autotune",
    "optim: {lr: .nan}\n": "line 3: optim.lr is '.nan': give a finite number",
    "optim:\n  max_grad_norm: -.inf\n": "line 4: optim.max_grad_norm is '-.inf': give a finite number",
    "checkpoint: {minutes: 1e999}\n": "line 3: checkpoint.minutes is '1e999': give a finite number",
    "optim: 0.001\n": "line 3: optim holds no keys: write them one a line, as 'key: value'",
    "seed: !!python/object/apply:os.system ['true']\n": "line 3: seed has the tag !!python/object/apply:os.system: "
    "leave it out, the key says what the value means",
    'load_2d: "a\\0b"\n': "line 3: load_2d is 'a\\x00b': give a path",
    "load_2d: ''\n": "line 3: load_2d is '': give a path",
    "load_2d: ~nobody-here/a\n": "line 3: load_2d is '~nobody-here/a', and that home folder is unknown: give its path",
    "---\nepochs: 3\n": "line 3: this is not YAML: expected a single document in the stream, but found another "
    "document",
    "optim:\n\tlr: 1\n": "line 4: this is not YAML: while scanning for the next token, found character '\\t' that "
    "cannot start any token; indent with spaces",
    "a: \0\n": "line 3: U+0000 is no text: save the file as UTF-8 text",
    "data: {batch_size: 0}\n": "line 3: data.batch_size is 0: give at least 1",
    "optim:\n  ema: 1\n": "line 4: optim.ema is 1.0: give a number between 0 and 1",
    "optim: {grad_accum_steps: 64}\n": "line 3: optim.grad_accum_steps is 64, more than data.batch_size 32",
    "optim: {name: lamb}\n": "line 3: optim.name lamb is NVIDIA Apex's: add --optim.apex, or take adamw",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_in_a_file_is_one_line_with_file_and_key(tmp_path, text):
    assert refusal(tmp_path, RUN + text) == f"c.yaml, {REFUSED[text]}"


NO_TEXT = {
    "latin-1": ((RUN + "# Zoë\n").encode("latin-1"), "c.yaml, line 3: this is not UTF-8: save the file as UTF-8 text"),
    "UTF-16": (RUN.encode("utf-16"), "c.yaml, line 1: this is not UTF-8: save the file as UTF-8 text"),
    "UTF-16 without its mark": (
        RUN.encode("utf-16-le"),
        "c.yaml, line 1: U+0000 is no text: save the file as UTF-8 text",
    ),
    "a list": (b"- stage: train3d\n", "c.yaml, line 1: the file holds no keys: write them one a line, as 'key: value'"),
    "words": (b"just words\n", "c.yaml, line 1: the file holds no keys: write them one a line, as 'key: value'"),
    "deep": (b"[" * 5000, "c.yaml is nested in a circle or too deep: write its keys without aliases"),
    "circle": (b"optim: &o {<<: *o}\n", "c.yaml is nested in a circle or too deep: write its keys without aliases"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_files_that_are_no_configurations(tmp_path, kind):
    content, message = NO_TEXT[kind]
    assert refusal(tmp_path, content) == message


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "c.yaml", "epochs: 9\nload_2d: ~/a.pt\nload_3d: ./~/b.pt\n")
    config = parse_train(["--config", "~/c.yaml", *NEEDED])
    assert (config.epochs, config.load_2d, config.load_3d) == (9, tmp_path / "a.pt", Path("./~/b.pt"))


def test_a_missing_file_is_named():
    for path, reason in (("configs/absent.yaml", "No such file"), ("configs", "Is a directory"), ("~x-x/c", "No such")):
        with pytest.raises(InputError, match=f"{path} cannot be read .{reason}.*: give a configuration file such as"):
            parse_train(["--config", path, *NEEDED])


def test_the_file_is_not_blamed_for_the_command_line(tmp_path):
    text = RUN + "epochs: 3\ndata: {threads: 1}\n"
    assert refusal(tmp_path, text, "--epoch", "4") == "--epoch is no flag: did you mean --epochs?"
    assert refusal(tmp_path, text, "--epochs", "many") == "--epochs is 'many': give a whole number"
    assert refusal(tmp_path, text, "--epochs", "0") == "epochs is 0: give at least 1"
    assert refusal(tmp_path, text, "--data.threads=-1") == "data.threads is -1: give at least 0"
    assert refusal(tmp_path, text, "--optim.lr", "nan") == "--optim.lr is 'nan': give a finite number"


def test_what_the_file_lacks_is_still_required(tmp_path):
    with pytest.raises(
        InputError, match=r"^--run-dir and --data\.shards are missing; for example: .* --config \S+c.yaml"
    ):
        parse_train(write(tmp_path / "c.yaml", "stage: train2d\n"))


SECTIONS = {
    "data.": DataConfig(shards=Path("shards")),
    "data.augment.": AugmentConfig(),
    "model.": ModelConfig(),
    "loss.": LossWeights(),
    "optim.": OptimConfig(),
    "distributed.": DistributedConfig(),
    "checkpoint.": CheckpointConfig(),
    "": parse_train(NEEDED),
}
FLOATS = [
    prefix + f.name
    for prefix, config in SECTIONS.items()
    for f in dataclasses.fields(config)
    if f.type.startswith("float")
]


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0])
def test_no_number_is_non_finite_or_negative_wherever_it_comes_from(key, number):
    prefix, _, name = key.rpartition(".")
    section = f"{prefix}." if prefix else ""
    wanted = "a finite number" if not math.isfinite(number) else ""
    with pytest.raises(InputError, match=rf"^{key} is {number}: give {wanted}"):
        made = dataclasses.replace(SECTIONS[section], **{name: number})
        dataclasses.replace(SECTIONS[""], loss=made)
    with pytest.raises(InputError, match=rf"{key.replace('_', '-')} is '{number}': give a finite|{key} is -1.0: give"):
        parse_train([*NEEDED, f"--{key.replace('_', '-')}={number}"])


AWKWARD = [
    "2024-01-31",
    "007",
    "yes",
    "null",
    "~",
    "~root",
    "a: b #c",
    "'",
    "é 😀",
    "1e3",
    "runs/x",
    "/a//b/",
    "a\\b\n",
    "\udcff",
]


@pytest.mark.parametrize("name", AWKWARD, ids=ascii)
def test_the_configuration_of_a_run_is_one_for_another(tmp_path, name):
    flags = [
        "--optim.max-grad-norm",
        "1.5",
        "--optim.lr",
        "1e-05",
        "--data.image-size",
        "128",
        "--resume",
    ]
    flags += ["--compile", "off", "--model.pretrained", name, "--epochs", "1_000", "--checkpoint.minutes", "1e22"]
    config = dataclasses.replace(parse_train([*NEEDED, *flags]), run_dir=Path(name), load_2d=Path(name))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_plain(config), sort_keys=False))
    assert parse_train(["--config", str(path)]) == dataclasses.replace(config, config=path)


def test_every_key_goes_through_a_file(tmp_path):
    plain = to_plain(parse_train(NEEDED))
    for key, _ in keys_of(TrainConfig):
        *sections, name = key.split(".")
        section = plain
        for each in sections:
            section = section[each]
        assert name in section


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_the_shipped_configurations_are_valid(path):
    config = parse_train(["--config", str(path), "--data.shards", "shards", "--run-dir", "runs/x"])
    assert isinstance(config, TrainConfig)
    assert config.stage == path.stem
    assert not ignored_values(config)


def test_what_a_stage_does_not_obey_is_told_and_not_recorded(tmp_path):
    more = ["--model.backbone", "resnet18", "--data.threads", "3", "--optim.gamma", "0.5", "--loss.bone", "0"]
    config = parse_train([*NEEDED, "--stage", "train3d", *more])
    assert ignored_values(config) == {"data.threads": 3, "model.backbone": "resnet18", "optim.gamma": 0.5}
    recorded = flatten(used_values(config))
    assert "loss.bone" in recorded
    assert not recorded.keys() & {"loss.heatmap", "data.backend", "optim.momentum", *ignored_values(config)}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(used_values(config)))
    again = parse_train(["--config", str(path)])
    assert used_values(again) == {**used_values(config), "config": str(path)}
    config = parse_train([*NEEDED, *more, "--optim.schedule", "step"])
    assert ignored_values(config) == {"loss.bone": 0.0}


def test_nodes_may_differ_in_every_path():
    paths = {key for key, hint in keys_of(TrainConfig) if hint in (Path, Path | None)}
    assert paths
    assert paths <= PER_NODE
