"""``tools.download`` from a server on this machine to a dataset."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from urllib3 import Retry

from tests.dry_runs import bytes_of, rows, snapshot
from tests.tools.archive_factory import contents, frames_of, split_into, tar_of
from tests.tools.downloading.release_server import Fault, ReleaseServer
from tests.tools.shard_runs import ROOT, tree
from tools import arrange, download, extract
from tools.dataset.layout import LAST_PARTS
from tools.downloading import work
from tools.downloading.server import Server

pytestmark = pytest.mark.network

SUBJECTS = {"female_002_f_s": 1, "male_008_a_a": 9, "female_012_f_s": 1}
"""A subject of each split, and how many parts it has."""
BUFFER = 1 << 18


@pytest.fixture
def stored(release: ReleaseServer, tmp_path: Path) -> Path:
    """Give a folder with what the server has."""
    folder = tmp_path / "stored"
    folder.mkdir()
    for subject, parts in SUBJECTS.items():
        for path in split_into(folder, subject, tar_of(frames_of(subject, 6, 60_000)), parts):
            release.files[path.name] = path.read_bytes()
    return folder


def flags_of(release: ReleaseServer, output: Path, *flags: str) -> list[str]:
    return ["--output", str(output), "--base-url", release.url, "--subjects", *SUBJECTS, *flags]


def by_hand(stored: Path, folder: Path) -> dict[str, bytes]:
    """Return the dataset that tools.extract and tools.arrange make of the same parts."""
    assert extract.main(["--input", str(stored), "--output", str(folder / "raw"), "--workers", "1"]) == 0
    assert arrange.main(["--input", str(folder / "raw"), "--output", str(folder / "by hand")]) == 0
    return tree(folder / "by hand")


def test_the_table_is_that_of_the_documentation() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    told: dict[str, dict[str, str]] = {"train": {}, "test": {}, "val": {}}
    for letter, *cells in re.findall(r"^\| `parta(\w)` \|(.*)\|(.*)\|(.*)\|$", page, re.MULTILINE):
        for split, cell in zip(told, cells, strict=True):
            told[split] |= {name.strip(): letter for name in cell.split(",") if name.strip()}
    assert told == LAST_PARTS


def test_parts_arrive(release: ReleaseServer, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release.faults["male_008_a_a.tar.gz.partac"] = [Fault(cut=10_000)]
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "male_008_a_a.tar.gz.partab").write_bytes(b"cut short by another program")
    assert download.main(flags_of(release, tmp_path / "parts")) == 0
    assert tree(tmp_path / "parts") == tree(stored)
    assert "11 parts fetched, 0 were there already, 0 cannot be" in capsys.readouterr().out
    before = snapshot(tmp_path / "parts")
    release.requests.clear()
    assert download.main(flags_of(release, tmp_path / "parts")) == 0
    assert {method for method, *_ in release.requests} == {"HEAD"}
    assert snapshot(tmp_path / "parts") == before
    assert "0 parts fetched, 11 were there already, 0 cannot be" in capsys.readouterr().out


@pytest.mark.parametrize("delete", [False, True])
def test_the_dataset_is_that_of_extract_and_arrange(
    release: ReleaseServer, stored: Path, tmp_path: Path, delete: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, dataset = tmp_path / "parts", tmp_path / "dataset"
    flags = flags_of(release, parts, "--extract", str(dataset), *(["--delete-parts"] if delete else []))
    assert download.main(flags) == 0
    assert f"{dataset}: 3 subjects unpacked, 0 were there already, 0 are not there" in capsys.readouterr().out
    assert tree(dataset) == by_hand(stored, tmp_path)
    assert tree(parts) == ({} if delete else tree(stored))
    release.requests.clear()
    assert download.main(flags) == 0
    assert not release.requests, "what is unpacked is not asked for"
    assert "0 subjects unpacked, 3 were there already" in capsys.readouterr().out


def test_parts_of_a_subject_that_was_unpacked_before_are_deleted(
    release: ReleaseServer, stored: Path, tmp_path: Path
) -> None:
    parts, dataset = tmp_path / "parts", tmp_path / "dataset"
    flags = flags_of(release, parts, "--extract", str(dataset))
    assert download.main(flags) == 0
    changed = next((dataset / "ValSet").rglob("*.png"))
    content = changed.read_bytes()
    changed.write_bytes(content[:-1])
    assert download.main([*flags, "--delete-parts"]) == 1  # they may be the only whole copy
    assert sorted(tree(parts)) == sorted(name for name in tree(stored) if "male_008" in name)
    changed.write_bytes(content)
    assert download.main([*flags, "--delete-parts"]) == 0
    assert not tree(parts)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_next_subject_comes_while_one_is_unpacked_and_the_one_after_it_waits(
    release: ReleaseServer, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = ({name for name in release.files if name.startswith(one)} for one in SUBJECTS)
    wanted, seen = [first | second, second | third, third], []
    unpack_subject = work.unpack_subject

    def slowly(*arguments: Any) -> Any:
        while not names(tmp_path / "parts") >= wanted[len(seen)]:
            time.sleep(0.01)
        time.sleep(0.3)  # enough for one that should wait and does not
        seen.append(names(tmp_path / "parts"))
        return unpack_subject(*arguments)

    monkeypatch.setattr(work, "unpack_subject", slowly)
    flags = flags_of(release, tmp_path / "parts", "--extract", str(tmp_path / "dataset"), "--delete-parts")
    assert download.main(flags) == 0
    assert seen == wanted


def test_what_the_server_lacks_is_named_and_the_others_come(
    release: ReleaseServer, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {"male_008_a_a.tar.gz.partad": 404, "male_008_a_a.tar.gz.partag": 403}
    for name, status in lacking.items():
        release.always[name] = Fault(status=status)
    flags = flags_of(release, tmp_path / "parts", "--extract", str(tmp_path / "dataset"))
    assert download.main(flags) == 1
    said = capsys.readouterr().out
    assert "male_008_a_a: male_008_a_a.tar.gz.partad: the server answers 404 (Not Found)\n" in said
    assert "male_008_a_a: male_008_a_a.tar.gz.partag: the server answers 403 (Forbidden)\n" in said
    assert "male_008_a_a: is not unpacked, for parts of it are missing\n" in said
    assert "9 parts fetched, 0 were there already, 2 cannot be" in said
    assert "run the same command again" in said
    assert sorted(tree(tmp_path / "parts")) == sorted(tree(stored).keys() - lacking.keys())
    assert {path.name for path in (tmp_path / "dataset").glob("*/*")} == {"female_002_f_s", "female_012_f_s"}
    release.always.clear()
    assert download.main(flags) == 0
    assert tree(tmp_path / "dataset") == by_hand(stored, tmp_path)


def test_a_damaged_archive_is_named(
    release: ReleaseServer, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = bytearray(release.files["male_008_a_a.tar.gz.partae"])
    damaged[1000:1100] = bytes(100)
    release.files["male_008_a_a.tar.gz.partae"] = bytes(damaged)
    flags = flags_of(release, tmp_path / "parts", "--extract", str(tmp_path / "dataset"), "--delete-parts")
    assert download.main(flags) == 1
    assert re.search(r"^male_008_a_a: .* damaged .*download it again$", capsys.readouterr().out, re.MULTILINE)
    assert len(tree(tmp_path / "parts")) == 9, "parts of the others are deleted"


def test_an_incomplete_subject_is_named(
    release: ReleaseServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in split_into(tmp_path, "female_001_a_a", tar_of(frames_of("female_001_a_a")), 9):
        release.files[path.name] = path.read_bytes()
    flags = ["--output", str(tmp_path / "parts"), "--base-url", release.url, "--subjects", "female_001_a_a"]
    assert download.main(flags) == 0
    assert "female_001_a_a: note: the release itself lacks files of it" in capsys.readouterr().out


def test_a_dry_run_tells_and_writes_nothing(
    release: ReleaseServer, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, dataset = tmp_path / "parts", tmp_path / "dataset"
    parts.mkdir()
    there = "male_008_a_a.tar.gz.partaa"
    (parts / there).write_bytes(release.files[there])
    flags = flags_of(release, parts, "--extract", str(dataset))
    before = snapshot(tmp_path)
    assert download.main([*flags, "--dry-run"]) == 0
    said = rows(capsys.readouterr().out)
    assert snapshot(tmp_path) == before
    size = sum(map(len, release.files.values()))
    assert said["male_008_a_a"].startswith("to fetch, 8 of 9 parts: ")
    assert said["to fetch"].startswith("10 parts, ")
    assert bytes_of(said["to fetch"].partition(", ")[2]) == pytest.approx(size - len(release.files[there]), rel=0.01)
    assert bytes_of(said["space, --output"].removeprefix("at least ")) == pytest.approx(
        2 * size - len(release.files[there]), rel=0.01
    )
    assert download.main([*flags, "--delete-parts", "--dry-run"]) == 0
    deleting = rows(capsys.readouterr().out)["space, --output"].removeprefix("at least ")
    last = len(release.files["female_012_f_s.tar.gz.partaa"])
    assert bytes_of(deleting) == pytest.approx(size + last - len(release.files[there]), rel=0.01)
    assert said["there already"] == "1 part"
    assert "MB/s of one connection" in said["time"]
    assert download.main(flags) == 0
    capsys.readouterr()
    release.files.pop("female_002_f_s.tar.gz.partaa")
    assert download.main([*flags_of(release, parts), "--dry-run"]) == 1
    assert "answers 404" in rows(capsys.readouterr().out)["female_002_f_s"]
    assert download.main([*flags, "--dry-run"]) == 0
    assert rows(capsys.readouterr().out)["female_002_f_s"] == "unpacked already"


def test_too_little_room_is_told_first(
    release: ReleaseServer, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.files["female_002_f_s.tar.gz.partaa"] = bytes(4_000_000)
    flags = ["--output", str(small_disk / "parts"), "--base-url", release.url, "--subjects", "female_002_f_s"]
    assert download.main(flags) == 1
    message = capsys.readouterr().err
    assert "4.00 MB are needed and 3.15 MB are free" in message
    assert message.count("\n") == 1
    assert {method for method, *_ in release.requests} == {"HEAD"}


def test_a_disk_that_fills_up_ends_it(
    release: ReleaseServer, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.files["female_002_f_s.tar.gz.partaa"] = bytes(4_000_000)
    release.answers_head = False  # so that the size is not known before
    flags = ["--output", str(small_disk / "parts"), "--base-url", release.url, "--subjects", "female_002_f_s"]
    assert download.main(flags) == 1
    message = capsys.readouterr().err
    assert "female_002_f_s.tar.gz.partaa: No space left on device: make room on its disk, then run again" in message
    assert message.count("\n") == 1


def test_no_server_at_all_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "Server", lambda: Server(Retry(total=1)))  # as it is, without the pauses
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--output", str(tmp_path / "parts"), "--base-url", address, "--connections", "1"]
        assert download.main(flags) == 1
    message = capsys.readouterr().err
    assert "the server cannot be reached; tried 2 times: check the network, --base-url" in message


def test_it_goes_through_the_proxy_of_the_environment(
    release: ReleaseServer, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, release.url.removesuffix("/v1.0"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    release.url = "http://release.invalid/v1.0"
    assert download.main(flags_of(release, tmp_path / "parts")) == 0
    assert tree(tmp_path / "parts") == tree(stored)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--delete-parts"], "--delete-parts needs --extract"),
        (["--extract", "{output}"], "are the same folder"),
        (["--subjects", "somebody"], "somebody is not in the dataset's splits"),
        (["--split", "val"], "female_002_f_s, female_012_f_s is not in the dataset's splits val"),
        (["--base-url", "ftp://elsewhere"], "http:// or https://"),
        (["--connections", "0"], "--connections is 0"),
    ],
)
def test_bad_input_is_one_line(
    release: ReleaseServer, tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag.format(output=tmp_path / "parts") for flag in flags]
    assert download.main(flags_of(release, tmp_path / "parts", *given)) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def start(release: ReleaseServer, output: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.download", *flags_of(release, output, "--connections", "2", *flags)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until_sent(release: ReleaseServer, size: int, process: subprocess.Popen[str]) -> None:
    while sum(release.sent.values()) < size:
        assert process.poll() is None
        time.sleep(0.005)


def test_what_a_run_left_that_was_killed_after_its_last_byte_goes_away(
    release: ReleaseServer, stored: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    assert download.main(flags_of(release, parts)) == 0
    (parts / "male_008_a_a.tar.gz.partab.version.partial").write_text("{}")
    release.requests.clear()
    assert download.main(flags_of(release, parts)) == 0
    assert tree(parts) == tree(stored)
    assert not [request for request in release.requests if request[0] == "GET"]


@pytest.mark.slow
def test_killed_runs_go_on_without_fetching_anything_twice(
    release: ReleaseServer, stored: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    big = {name: content * 40 for name, content in release.files.items()}
    release.files = big
    size = sum(map(len, big.values()))
    release.pace = 0.002
    for kill in range(1, 4):
        process = start(release, parts)
        until_sent(release, kill * size // 5, process)
        process.kill()
        process.communicate()
    partials = {path.name.removesuffix(".partial"): path.stat().st_size for path in parts.glob("*.parta?.partial")}
    whole = {path.name for path in parts.glob("*.parta?")}
    assert partials
    assert whole
    release.requests.clear()
    process = start(release, parts)
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert contents(parts) == big
    asked = {name: asked for method, name, asked in release.requests if method == "GET"}
    ranges = {name: f"bytes={size}-" for name, size in partials.items() if size}
    assert asked == {name: ranges.get(name, "") for name in big.keys() - whole}, "what is here never comes again"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_in_one_line(
    release: ReleaseServer, stored: Path, tmp_path: Path, number: signal.Signals
) -> None:
    for name in release.files:
        release.faults[name] = [Fault(stall=5000)]  # nothing comes any more
    process = start(release, tmp_path / "parts", "--extract", str(tmp_path / "dataset"))
    until_sent(release, 10_000, process)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert said == f"{number.name}: ending; run the same command again: it goes on where it stopped\n"
    release.faults.clear()
    again = start(release, tmp_path / "parts", "--extract", str(tmp_path / "dataset"))
    assert (again.communicate()[1], again.returncode) == ("", 0)
    assert tree(tmp_path / "dataset") == by_hand(stored, tmp_path)
