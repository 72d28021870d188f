"""One file over connections and from servers that fail: whole and right in the end, or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from urllib3 import Retry

from tests.tools.downloading.release_server import Fault, ReleaseServer
from tools.downloading.server import RefusedError, Server
from tools.downloading.transfer import fetch
from tools.parallel import CancelledJobError, Progress

pytestmark = pytest.mark.network

NAME = "male_008_a_a.tar.gz.partaa"
BUFFER = 1 << 18
QUICK = Retry(total=3)


class Counted(Progress):
    """Counts, and interrupts the transfer where it is told to."""

    def __init__(self, stop_at: int = 1 << 60) -> None:
        self.units = 0
        self._stop_at = stop_at

    def add(self, units: int, written: int = 0) -> None:
        self.units += units
        if self.units >= self._stop_at:
            raise CancelledJobError


def get(release: ReleaseServer, folder: Path, progress: Progress | None = None, seconds: float = 10.0) -> Path:
    path = folder / NAME
    fetch(Server(QUICK, (seconds, seconds)), f"{release.url}/{NAME}", path, progress or Progress())
    assert [one.name for one in folder.iterdir()] == [NAME], "nothing is left beside it"
    return path


CUT = [Fault(cut=1_000_000)]
FAULTS: dict[str, list[Fault]] = {
    "none": [],
    "cut": [*CUT, Fault(cut=1_500_000)],
    "cut more often than it is tried in vain": [Fault(cut=400_000) for _ in range(6)],
    "cut at once": [Fault(cut=0), Fault(cut=0)],
    "500": [Fault(status=500), *CUT, Fault(status=500), Fault(status=502)],
    "a range of which less comes": [*CUT, Fault(cut=10), Fault(cut=10)],
    "no tag": [Fault(cut=1_000_000, tags=False), Fault(cut=1_000_000, tags=False)],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_no_byte_comes_twice(release: ReleaseServer, content: bytes, tmp_path: Path, faults: list[Fault]) -> None:
    release.files[NAME], release.faults[NAME] = content, list(faults)
    counted = Counted()
    assert get(release, tmp_path, counted).read_bytes() == content
    assert counted.units == len(content)
    assert len(release.gets(NAME)) == len(faults) + 1
    assert release.sent[NAME] <= len(content) + BUFFER * len(faults)


def test_what_was_interrupted_goes_on(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME] = content
    with pytest.raises(CancelledJobError):
        get(release, tmp_path, Counted(2_000_000))
    partials = sorted(path.name for path in tmp_path.iterdir())
    assert partials == [f"{NAME}.partial", f"{NAME}.version.partial"]
    had = (tmp_path / partials[0]).stat().st_size
    assert 2_000_000 <= had < 2_000_000 + BUFFER
    assert get(release, tmp_path).read_bytes() == content
    assert release.gets(NAME) == ["", f"bytes={had}-"]


def test_all_of_it_without_its_name_is_asked_about_and_named(
    release: ReleaseServer, content: bytes, tmp_path: Path
) -> None:
    release.files[NAME] = content
    with pytest.raises(CancelledJobError):
        get(release, tmp_path, Counted(len(content)))
    sent = release.sent[NAME]
    assert get(release, tmp_path).read_bytes() == content  # the answer is 416
    assert release.sent[NAME] == sent


@pytest.mark.parametrize("length", [3_000_000, 2_000_000, 500_000, 4_000_000])
@pytest.mark.parametrize("heeded", [True, False])
def test_a_file_that_changes_is_begun_anew(
    release: ReleaseServer, content: bytes, tmp_path: Path, length: int, heeded: bool
) -> None:
    other = (content[::-1] * 2)[:length]
    release.files[NAME] = content
    release.faults[NAME] = [Fault(cut=1_000_000, replace=other), Fault(ignore_if_range=not heeded)]
    assert get(release, tmp_path).read_bytes() == other
    assert len(release.gets(NAME)) == (2 if heeded else 3)


def test_a_server_without_ranges_gives_the_file_anew(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME], release.faults[NAME] = content, [*CUT, Fault(ignore_range=True)]
    assert get(release, tmp_path).read_bytes() == content
    assert release.gets(NAME) == ["", "bytes=1000000-"]


def test_a_beginning_of_which_nothing_is_known_is_not_built_upon(
    release: ReleaseServer, content: bytes, tmp_path: Path
) -> None:
    release.files[NAME] = content
    (tmp_path / f"{NAME}.partial").write_bytes(bytes(1000))
    assert get(release, tmp_path).read_bytes() == content


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_refused_is_not_asked_for_again(
    release: ReleaseServer, content: bytes, tmp_path: Path, status: int
) -> None:
    release.files[NAME], release.faults[NAME] = content, [Fault(status=status)]
    with pytest.raises(RefusedError, match=f"the server answers {status}"):
        get(release, tmp_path)
    assert len(release.requests) == 1
    assert not list(tmp_path.iterdir())


def test_a_server_that_asks_to_wait_is_left_alone(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME], release.faults[NAME] = content, [Fault(status=429, headers={"Retry-After": "1"})]
    assert get(release, tmp_path).read_bytes() == content
    assert release.times[1] - release.times[0] >= 1


def test_a_server_that_is_out_of_order_is_given_up(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME], release.always[NAME] = content, Fault(status=500)
    with pytest.raises(RefusedError, match=r"answers 500 \(Internal Server Error\); tried 4 times"):
        get(release, tmp_path)
    assert len(release.requests) == 4


def test_a_length_that_is_a_lie_is_given_up(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME], release.always[NAME] = content, Fault(promise=1000)
    with pytest.raises(RefusedError, match="tried 4 times"):
        get(release, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_connection_that_stalls_is_left(release: ReleaseServer, content: bytes, tmp_path: Path) -> None:
    release.files[NAME], release.faults[NAME] = content, [Fault(stall=1_000_000)]
    assert get(release, tmp_path, seconds=0.3).read_bytes() == content
    assert release.sent[NAME] <= len(content) + BUFFER


def test_an_archive_that_is_taken_for_a_compressed_answer_stays_one(
    release: ReleaseServer, content: bytes, tmp_path: Path
) -> None:
    release.files[NAME], release.always[NAME] = content, Fault(headers={"Content-Encoding": "gzip"})
    assert get(release, tmp_path).read_bytes() == content
