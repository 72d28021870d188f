"""Two hundred inputs that are not what they say: listed, and nothing else happens."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.checkpoint_factory import make_checkpoint

pytestmark = pytest.mark.slow

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".webp": "WEBP"}
SIDE = 96


def good(ending, seed):
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cv2.resize(small, (SIDE, SIDE))).save(buffer, FORMATS[ending])
    return buffer.getvalue()


def claim(ending, data, width, height):
    """Return an image whose header says another size."""
    data = bytearray(data)
    if ending == ".png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif ending == ".bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif ending == ".jpg":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", min(height, 65535), min(width, 65535))
    elif ending == ".tif":
        (directory,) = struct.unpack("<I", data[4:8])
        for entry in range(directory + 2, len(data) - 12, 12):
            tag = struct.unpack("<H", data[entry : entry + 2])[0]
            if tag in (256, 257):
                data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
    else:
        start = data.index(b"\x9d\x01\x2a") + 3
        data[start : start + 4] = struct.pack("<HH", min(width, 16383), min(height, 16383))
    return bytes(data)


def malformed(random):
    """Yield (name, bytes or None for a folder, whether it surely cannot be read)."""
    for ending in FORMATS:
        for seed in range(11):
            data = good(ending, seed)
            flipped = bytearray(data)
            for place in random.integers(0, 64, 4):
                flipped[place] = random.integers(0, 256)
            yield f"flip{seed}{ending}", bytes(flipped), False
            yield f"cut{seed}{ending}", data[: int(random.integers(1, 60))], True
            yield f"half{seed}{ending}", data[: len(data) // 2], False
        for number, size in enumerate([(60000, 60000), (2**31 - 1, 1), (20000, 20000)]):
            yield f"huge{number}{ending}", claim(ending, good(ending, 0), *size), ending != ".webp"
        yield f"empty{ending}", b"", True
        yield f"zeros{ending}", bytes(5000), True
        yield f"text{ending}", b"these are words, not pixels\n" * 20, True
        yield f"noise{ending}", random.bytes(3000), True
        yield f"folder{ending}", None, True
        yield f"header{ending}", good(ending, 0)[:16] + random.bytes(4000), True


def infer(checkpoint, folder, output):
    """Run as a user does; return the exit status, the most memory it held (MiB), and predictions.json."""
    flags = ("--checkpoint", checkpoint, "--input-dir", folder, "--output-dir", output, "--device", "cpu")
    command = [sys.executable, "engine/infer.py", *map(str, flags), "--workers", "2", "--no-images"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    content = json.loads((output / "predictions.json").read_text())
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024, content


@pytest.mark.timeout(200)
def test_two_hundred_malformed_inputs(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "best.pt")
    (tmp_path / "good").mkdir()
    for seed in range(8):
        (tmp_path / "good" / f"{seed}.png").write_bytes(good(".png", seed))
    status, usual, _ = infer(checkpoint, tmp_path / "good", tmp_path / "usual")
    assert status == 0

    folder = tmp_path / "bad"
    folder.mkdir()
    written, unreadable = set(), set()
    for name, data, surely in malformed(np.random.default_rng(0)):
        written.add(name)
        unreadable |= {name} if surely else set()
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    written |= {"pipe.png", "loop.png", "gone.jpg"}
    unreadable |= {"pipe.png", "loop.png", "gone.jpg"}
    (folder / "good.png").write_bytes(good(".png", 0))
    assert len(written) >= 200

    status, memory, content = infer(checkpoint, folder, tmp_path / "out")
    assert status == 1
    read, listed = ({entry["file"] for entry in content[key]} for key in ("images", "unreadable"))
    assert read | listed == written | {"good.png"}
    assert not read & listed
    assert unreadable <= listed
    assert "good.png" in read
    assert all(item["reason"] for item in content["unreadable"])
    assert memory < usual + 300
