from pathlib import Path

import pytest
import yaml

from engine.config import TrainConfig, parse_train, to_plain
from loaders import InputError

NEEDED = ["--stage", "train2d", "--run-dir", "runs/x", "--data.shards", "shards"]
CONFIGS = sorted(Path("configs").rglob("*.yaml"))


def write(path, text):
    path.write_text(text)
    return ["--config", str(path)]


def test_the_command_line_wins_over_the_file(tmp_path):
    file = write(
        tmp_path / "c.yaml",
        "stage: train3d\nresume: true\nmax_steps: null\ndata:\n  batch_size: 7\n  outputs: [image, worldp]\n"
        "  augment:\n    rotation: 12.5\noptim: {lr: 0.5, kind: sgd}\n",
    )
    config = parse_train([*file, *NEEDED, "--optim.lr", "0.25"])
    assert config.stage == "train2d"
    assert config.resume
    assert config.max_steps is None
    assert config.data.batch_size == 7
    assert config.data.outputs == ("image", "worldp")
    assert config.data.augment.rotation == 12.5
    assert (config.optim.kind, config.optim.lr) == ("sgd", 0.25)


def test_a_written_configuration_reads_back_the_same(tmp_path):
    config = parse_train([*NEEDED, "--optim.clip", "1.5", "--data.image-size", "128", "--data.outputs"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_plain(config)))
    again = parse_train(["--config", str(path)])
    assert to_plain(again) == to_plain(config) | {"config": str(path)}


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_the_shipped_configurations_are_valid(path):
    config = parse_train(["--config", str(path), "--data.shards", "shards", "--run-dir", "runs/x"])
    assert isinstance(config, TrainConfig)
    assert config.stage == path.stem


WRONG = {
    "unknown key": ("data:\n  batchsize: 3\n", [], ["c.yaml", "--data.batchsize", "--data.batch-size"]),
    "wrong type": ("epochs: many\n", [], ["c.yaml", "--epochs", "many"]),
    "wrong choice": ("stage: train4d\n", [], ["train4d", "train2d"]),
    "out of range": ("data:\n  batch_size: 0\n", [], ["data.batch_size is 0"]),
    "no YAML": ("a: [1\n", [], ["c.yaml is not YAML"]),
    "no mapping": ("just words\n", [], ["c.yaml holds no keys"]),
    "unknown flag": ("{}\n", ["--data.sharsd", "x"], ["--data.sharsd"]),
    "micro batches": ("optim: {micro_batches: 64}\n", [], ["optim.micro_batches is 64"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_configurations_are_one_clear_line(tmp_path, wrong):
    text, flags, words = WRONG[wrong]
    needed = NEEDED[2:] if "stage:" in text else NEEDED
    with pytest.raises(InputError) as error:
        parse_train([*write(tmp_path / "c.yaml", text), *needed, *flags])
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"configs/absent\.yaml does not exist"):
        parse_train(["--config", "configs/absent.yaml", *NEEDED])
