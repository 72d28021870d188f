"""Unpacking is measured beside decompressors, those that are not installed included."""

import shutil

import pytest

from benchmarks import extraction
from tests.benchmarks.test_harness import check_result


def test_extraction_end_to_end(tmp_path):
    flags = ["--frames", "4", "--parts", "2", "--repeat", "3", "--threads", "1", "--output", str(tmp_path)]
    assert extraction.main(["--rounds", "1", "--lap", "0", *flags]) == 0
    content = check_result(tmp_path, "extraction")
    found = {one["name"]: one for one in content["candidates"]}
    ran = {name for name, one in found.items() if one["rates"]}
    assert {"tools.extract", "gzip alone", "isal.igzip alone", "zlib_ng.gzip_ng alone"} <= ran
    assert ("GNU tar" in ran) == (shutil.which("tar") is not None)
    assert all(one["median"] > 0 and one["unit"] == "MB/s" for name, one in found.items() if name in ran)
    assert all(
        "rapidgzip not installed" in one["absent"] for name, one in found.items() if name not in ran | {"GNU tar"}
    )
    assert 1 < found["tools.extract"]["figures"]["bytes unpacked per byte read"][0] < 1.1
    assert content["configuration"]["decompressors"].keys() >= {"zlib", "isal", "zlib-ng"}
    (projection,) = content["projections"]
    assert (projection["unit"], "disks keep up" in projection["assumes"]) == ("hours", True)


@pytest.mark.parametrize("flag", ["--frames", "--parts", "--repeat", "--rounds"])
def test_bad_numbers_are_refused(flag, capsys):
    assert extraction.main([flag, "0"]) == 2
    assert "give at least" in capsys.readouterr().err


@pytest.mark.parametrize("parts", [1, 3])
def test_parts_join_to_the_archive_under_every_name(tmp_path, parts):
    archive = tmp_path / "whole.tar.gz"
    archive.write_bytes(bytes(range(100)))
    extraction._split(archive, tmp_path / "parts", parts, 2)
    for subject in ("subject_000", "subject_001"):
        names = sorted((tmp_path / "parts").glob(f"{subject}.tar.gz.part*"))
        assert len(names) == parts
        assert b"".join(name.read_bytes() for name in names) == archive.read_bytes()
