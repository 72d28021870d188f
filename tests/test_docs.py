"""What documents, configurations and scripts name exists, and the documentation site is whole by itself."""

import ast
import errno
import functools
import importlib
import os
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).resolve().parent.parent
CHANGES = ROOT / "CHANGELOG.md"
DOCUMENTS = sorted({*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", *ROOT.glob("docs/**/*.md")} - {CHANGES})
"""Those that speak of what is, unlike the list of changes."""
PACKAGES = ("benchmarks", "engine", "loaders", "models", "tools")
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
SCRIPTS = sorted(ROOT.glob("benchmarks/*.sh"))
ELSEWHERE = {"--no-deps", "--no-build-isolation", "--dependency", "--shm-size", "--ipc", "--ulimit"}
"""Flags of pip, SLURM and Docker."""


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


def inline_code(path):
    """Return what a document has between backticks, outside blocks of code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def exists(name):
    """Return whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_modules_functions_and_files_exist():
    dotted = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
    files = re.compile(rf"(?:{'|'.join((*PACKAGES, 'configs', 'docs', 'tests'))})/[\w./-]*")
    lost = []
    for path in DOCUMENTS:
        for code in inline_code(path):
            if dotted.fullmatch(code) and not exists(code):
                lost.append(f"{path.relative_to(ROOT)}: {code}")
            if files.fullmatch(code) and not (ROOT / code).exists():
                lost.append(f"{path.relative_to(ROOT)}: {code}")
    assert lost == []


def test_messages_that_troubleshooting_explains_are_ours():
    said = [os.strerror(errno.ENOSPC)]
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    symptoms = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    messages = [code for symptom in symptoms for code in re.findall(r"`(.+?)`", symptom) if " " in code]
    assert len(messages) > 20
    assert [message for message in messages if not any(message.strip("… ") in text for text in said)] == []


class Page(HTMLParser):
    """The attributes of a page's elements, by element."""

    def __init__(self, text):
        super().__init__()
        self.elements = defaultdict(list)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements[tag].append(dict(attributes))

    @property
    def anchors(self):
        return {element["id"] for elements in self.elements.values() for element in elements if "id" in element}

    @property
    def links(self):
        return [*(each.get("href") for each in self.elements["a"]), *(each["src"] for each in self.elements["img"])]


def test_links():
    markdown = pytest.importorskip("markdown")

    @functools.cache
    def page(path):
        return Page(markdown.markdown(path.read_text(), extensions=["tables", "fenced_code", "toc"]))

    dead = []
    for path in filter(Path.exists, (*DOCUMENTS, CHANGES)):
        for link in page(path).links:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = not target.exists() or (parts.fragment and parts.fragment not in page(target).anchors)
            if not parts.scheme and lost:
                dead.append(f"{path.relative_to(ROOT)}: {link}")
    assert dead == []


def test_site(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr

    assert "--samples-per-shard INT" in (tmp_path / "commands.html").read_text()
    loading = (tmp_path / "api/loaders.html").read_text()
    assert "Samples in a batch of one process" in loading  # below a field of a dataclass
    assert {"loaders.build_loader", "loaders.PoseBatch.joints_3d", "loaders.Loader.state_dict"} <= Page(loading).anchors

    fetched = []
    for path in tmp_path.rglob("*.html"):
        elements = Page(path.read_text()).elements
        fetched += [each.get("src") for tag in ("script", "img", "iframe", "source") for each in elements[tag]]
        fetched += [each.get("href") for each in elements["link"]]
    for path in (*tmp_path.rglob("*.css"), *tmp_path.rglob("*.svg")):
        fetched += re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", path.read_text())
    assert len(fetched) > 50
    assert [address for address in fetched if address and urlsplit(address).netloc] == [], "other hosts"
