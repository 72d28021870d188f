"""What a result says of the machine that it comes from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import results

ROOT = Path(__file__).resolve().parents[2]
LIMITS = dict(line.split("=", 1) for line in (ROOT / "benchmarks" / "avx2.env").read_text().splitlines())

PROGRAM = """
import json
import cv2, numba, numpy, torch
from benchmarks.results import origin
from loaders.planes import normalize

compiled = numba.njit(normalize.py_func)
compiled(numpy.zeros((8, 8, 3), numpy.uint8), numpy.zeros((3, 8, 8), numpy.float32))
(code,) = compiled.inspect_asm().values()
print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "numba": [name for name in ("ymm", "zmm") if name in code],
    "opencv": cv2.checkHardwareSupport(256),
    "hardware": origin("any")["hardware"],
}))
"""


@pytest.mark.slow
def test_the_limits_to_avx2_hold_and_are_told():
    environment = {**os.environ, **LIMITS}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    if "avx2" not in found["hardware"]["instructions"]:
        pytest.skip("this processor has no AVX2")
    assert found["torch"] == "AVX2"
    assert found["numba"] == ["ymm"]
    assert not found["opencv"]  # CV_CPU_AVX512_SKX, the only one that it has code for
    assert found["hardware"]["limits"] == LIMITS


def test_a_page_names_the_instructions_and_what_limits_them(monkeypatch):
    for name in results.LIMITS:
        monkeypatch.delenv(name, raising=False)
    content = {"benchmark": "any", **results.origin("any"), "candidates": [], "configuration": {}}
    content["hardware"] = {**content["hardware"], "instructions": ["avx2", "avx512_f"]}
    assert "Instructions: avx2, avx512_f. All of them were used." in results.page(content, [])
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    limited = {**content, "hardware": {**content["hardware"], "limits": results.origin("any")["hardware"]["limits"]}}
    assert "Limited by ATEN_CPU_CAPABILITY=avx2." in results.page(limited, [])
