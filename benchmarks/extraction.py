"""Megabytes per second of unpacking, beside unzipping alone: ``python -m benchmarks.extraction``."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Final

from benchmarks import data
from benchmarks.harness import (
    BenchmarkFlags,
    Candidate,
    Measured,
    Session,
    Target,
    Timed,
    at_least,
    beyond_start_up,
    measure,
)
from benchmarks.machine import versions_of
from benchmarks.results import Projection, Result, publish
from engine.cli.command import OK, command
from loaders.errors import Failure
from loaders.system.cores import available_cores
from tools.dataset.layout import SET_FOLDERS
from tools.synthesis.writer import MODALITIES

_BUFFER: Final = 1 << 20
"""How much is unzipped at once (bytes)."""
_RATIO: Final = "bytes unpacked per byte read"


@dataclass(frozen=True, kw_only=True)
class ExtractionFlags(BenchmarkFlags):
    """Flags of ``benchmarks.extraction``."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    frames: int = 64
    """Generated frames in an archive, about a megabyte each (frames)."""
    parts: int = 3
    """Parts of an archive (files)."""
    repeat: int = 6
    """Archives for each core (files)."""
    threads: int = 0
    """Cores to use (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, parts=1, repeat=2, threads=0)


@command("benchmarks.extraction", "Measure unpacking.")
def main(flags: ExtractionFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: ExtractionFlags) -> Result:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    with data.temporary_folder() as folder:
        archive = folder / "whole.tar.gz"
        _write_archive(archive, flags.frames)
        for name, count in (("few", cores), ("many", cores * flags.repeat)):
            _split(archive, folder / name, flags.parts, count)
        found = _candidates(archive, cores, flags.repeat)
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=0.0)
        chosen = {
            "threads": cores,
            "archive_bytes": archive.stat().st_size,
            "decompressors": {"zlib": zlib.ZLIB_RUNTIME_VERSION, **versions_of(("isal", "zlib-ng", "rapidgzip"))},
        }
    ours, alone, tar = ([one.name for one in found[part]] for part in (slice(1), slice(1, -1), slice(-1, None)))
    targets = [
        Target("unpacking over the fastest decompressor alone, all cores", ours, alone),
        Target("unpacking over zlib-ng alone, which it uses", ours, ["zlib_ng.gzip_ng alone"]),
        Target("unpacking over GNU tar", ours, tar),
    ]
    return publish("extraction", flags, measured, targets, chosen=chosen, projections=_whole(measured[0], cores))


def _candidates(archive: Path, cores: int, repeat: int) -> list[Candidate]:
    """Return ours first, GNU tar last, and between them what only unzips."""
    group, unit = f"archives of all modalities, {cores} cores", "MB/s"
    note = "start-up taken out by the difference of a long and a short run; everything is on the disk in the end"
    unzipping = [
        Candidate(f"{module} alone", partial(_unzipping, archive, module, cores), group, unit, (module,))
        for module in ("gzip", "isal.igzip", "zlib_ng.gzip_ng")
    ]
    rapid = [
        Candidate(
            f"rapidgzip alone, {threads}",
            partial(_unzipping, archive, "rapidgzip", at_once, parallelization=cores // at_once),
            group,
            unit,
            ("rapidgzip",),
        )
        for threads, at_once in (("a thread for each archive", cores), ("all cores for one archive", 1))
    ]
    return [
        Candidate("tools.extract", partial(_extracting, archive, cores, repeat), group, unit, note=note, ours=True),
        *unzipping,
        *rapid,
        Candidate(
            "GNU tar",
            partial(_untarring, archive, cores),
            group,
            unit,
            absent="" if shutil.which("tar") else "tar is not on the PATH",
            note="one file instead of parts; the disk is not waited for",
        ),
    ]


def _write_archive(path: Path, frames: int) -> None:
    dataset = path.with_name("dataset")
    data.synthesize(dataset, frames, MODALITIES)
    with tarfile.open(path, "w:gz", compresslevel=6) as tar:  # what gzip does when it is not told otherwise
        tar.add(dataset / SET_FOLDERS["train"], arcname=".")
    shutil.rmtree(dataset)


def _split(archive: Path, folder: Path, parts: int, count: int) -> None:
    """Write so many archives in parts: one, and hard links to it under the names of further subjects."""
    folder.mkdir()
    content = archive.read_bytes()
    size = -(-len(content) // parts)
    letters = map("".join, product(ascii_lowercase, repeat=2))
    for start, name in zip(range(0, len(content), size), letters, strict=False):
        first = folder / f"subject_000.tar.gz.part{name}"
        first.write_bytes(content[start : start + size])
        for number in range(1, count):
            os.link(first, folder / f"subject_{number:03d}.tar.gz.part{name}")


@contextlib.contextmanager
def _extracting(archive: Path, cores: int, repeat: int) -> Iterator[Session]:
    """The whole command over many archives and over few; the difference is the work without the start-up."""
    output = archive.with_name("raw")
    size = archive.stat().st_size
    latest: dict[str, float] = {}

    def seconds(parts: str) -> float:
        given = ("--input", archive.with_name(parts), "--output", output, "--workers", cores)
        passed = data.time_tool("tools.extract", *given)
        unpacked = sum(path.stat().st_size for path in (output / "subject_000").rglob("*.*") if path.is_file())
        latest[_RATIO] = unpacked / size
        shutil.rmtree(output)
        return passed

    def step() -> Timed:
        short, long = seconds("few"), seconds("many")
        latest["MB/s with start-up"] = cores * repeat * size / 1e6 / long
        return beyond_start_up(round(cores * (repeat - 1) * size / 1e6), short, long)

    yield Session(step, figures=lambda: latest)


@contextlib.contextmanager
def _unzipping(archive: Path, module: str, at_once: int, **options: int) -> Iterator[Session]:
    """Unzipping so many archives at once, nothing else, on threads that hold no lock."""
    opener = importlib.import_module(module).open
    megabytes = round(at_once * archive.stat().st_size / 1e6)

    def unzip(_: int) -> None:
        buffer = bytearray(_BUFFER)
        with opener(str(archive), **options) as stream:
            while stream.readinto(buffer):
                pass

    with ThreadPoolExecutor(at_once) as pool:

        def step() -> int:
            list(pool.map(unzip, range(at_once)))
            return megabytes

        yield Session(step)


@contextlib.contextmanager
def _untarring(archive: Path, cores: int) -> Iterator[Session]:
    """A process for each archive."""
    output = archive.with_name("raw")
    megabytes = round(cores * archive.stat().st_size / 1e6)

    def step() -> Timed:
        folders = [output / str(number) for number in range(cores)]
        for folder in folders:
            folder.mkdir(parents=True)
        start = time.perf_counter()
        running = [subprocess.Popen(["tar", "-xzf", archive, "-C", folder]) for folder in folders]
        statuses = [process.wait() for process in running]
        passed = time.perf_counter() - start
        if any(statuses):
            raise Failure("tar cannot unpack the generated archive")
        shutil.rmtree(output)
        return Timed(megabytes, passed)

    yield Session(step)


def _whole(extracting: Measured, cores: int) -> list[Projection]:
    unpacked = extracting.median * extracting.figures[_RATIO][-1]
    return [
        Projection(
            f"unpacking 1 TB on {cores} cores",
            1e6 / unpacked / 3600,
            "hours",
            "1 TB is the size of the unpacked release, its archives are compressed as far as these, and disks keep up",
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
