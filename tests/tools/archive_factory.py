"""Archives as the release has them, small, and running ``tools.extract`` on them."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import numpy as np

from tools import extract

SUBJECTS = ("female_001_a_a", "male_008_a_a")


def plain_tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(contents: dict[str, bytes]) -> bytes:
    return gzip.compress(plain_tar(contents), 1)


def frames_of(subject: str, count: int = 6, size: int = 40_000) -> dict[str, bytes]:
    noise = np.random.default_rng(list(subject.encode()))
    return {
        f"{subject}/env_001/cam_down/rgba/{subject}.rgba.{frame:06d}.png": noise.bytes(size)
        for frame in range(1, count + 1)
    }


def split_into(folder: Path, subject: str, content: bytes, parts: int) -> list[Path]:
    step = -(-len(content) // parts)
    names = [folder / f"{subject}.tar.gz.parta{letter}" for letter in "abcdefghij"[:parts]]
    for index, name in enumerate(names):
        name.write_bytes(content[index * step : (index + 1) * step])
    return names


def unpack(folder: Path, output: Path, *flags: str, workers: int = 1) -> int:
    return extract.main(["--input", str(folder), "--output", str(output), "--workers", str(workers), *flags])


def contents(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def command(folder: Path, output: Path, *flags: str) -> list[str]:
    """The same as a process of its own, to be started in ROOT."""
    return [sys.executable, "-m", "tools.extract", "--input", str(folder), "--output", str(output), *flags]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    info.mode, info.uid, info.gid = 0o6777, 1234, 1234
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def link(name: str, text: str, *, hard: bool = False) -> bytes:
    return member(name, tarfile.LNKTYPE if hard else tarfile.SYMTYPE, text)


def zipped(members: bytes) -> bytes:
    return gzip.compress(members + bytes(1024), 1)


def times(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_ctime_ns for path in output.glob("[!.]*/**/*")}
