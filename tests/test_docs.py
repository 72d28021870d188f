"""Commands and flags that documents, configurations and scripts name exist."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted({ROOT / "README.md", ROOT / "benchmarks/README.md", *ROOT.glob("docs/*.md")})
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
SCRIPTS = sorted(ROOT.glob("benchmarks/*.sh"))
ELSEWHERE = {"--no-deps", "--no-build-isolation", "--dependency"}
"""Flags of pip and SLURM."""


def commands(path):
    """Return the command lines in a document's blocks of code, in a configuration's comments, or of a script."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = "\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#   "))
    elif path.suffix != ".sh":
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        text = "\n".join(block for language, block in blocks if language in {"", "bash"})
    return [line.partition("#")[0].split() for line in text.replace("\\\n", " ").splitlines()]


def program(words):
    """Return the module that a command runs, and the flags that it is given; None if it is none of ours."""
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if re.fullmatch(r"engine/\w+\.py", word):
            module = word.removesuffix(".py").replace("/", ".")
        elif before == "-m" and re.fullmatch(r"(tools|benchmarks)(\.\w+)?", word):
            module = word
        else:
            continue
        return module, [flag.strip("[]") for flag in words[number:] if re.match(r"\[?--[a-z]", flag)]
    return None


def known_flags(module, monkeypatch, capsys):
    name = module if module != "benchmarks" else "benchmarks.__main__"
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(name).main()
    return set(re.findall(r"--[a-z0-9.-]+", capsys.readouterr().out))


def test_commands(monkeypatch, capsys):
    named = {}
    for path in (*DOCUMENTS, *CONFIGS, *SCRIPTS):
        for words in commands(path):
            if found := program(words):
                module, flags = found
                named.setdefault(module, set()).update(flags)
    assert {"engine.train", "engine.evaluate", "engine.infer", "tools.shard", "benchmarks.training"} <= named.keys()
    known = {module: known_flags(module, monkeypatch, capsys) for module in named}
    assert {module: flags - known[module] for module, flags in named.items() if flags - known[module]} == {}

    launcher = set(re.findall(r"--[a-z-]+", get_args_parser().format_help()))
    mentioned = set()
    for path in DOCUMENTS:
        for code in re.findall(r"`([^`\n]+)`", path.read_text()):
            mentioned |= set(re.findall(r"(?<!\S)--[a-z0-9.-]*[a-z0-9](?![\w.])", code))
    assert mentioned - set().union(launcher, ELSEWHERE, *known.values()) == set()
