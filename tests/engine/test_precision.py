import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.precision import Precision, is_native
from loaders import errors

CPU = torch.device("cpu")
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def test_auto_is_bf16_where_the_cpu_has_instructions_for_it():
    flags = Path("/proc/cpuinfo").read_text().split()
    native = ("avx512_bf16" in flags or "amx_bf16" in flags) and "ONEDNN_MAX_CPU_ISA" not in os.environ
    assert is_native("bf16", CPU) == native
    assert Precision.choose("auto", CPU).name == ("bf16" if native else "fp32")


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [
        ({"avx2": True, "avx512_bf16": False}, "fp32"),
        ({"avx512_f": True, "avx512_vnni": True}, "fp32"),  # any AVX-512 satisfies oneDNN's own question
        ({"avx512_f": True, "avx512_bf16": True}, "bf16"),
        ({"avx512_f": True, "amx_bf16": True}, "bf16"),
    ],
)
def test_auto_follows_the_instruction_sets(monkeypatch, instructions, chosen):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN is limited to less than AVX-512 here")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert Precision.choose("auto", CPU).name == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_does_not_count_what_a_gpu_emulates(monkeypatch, capability, chosen):
    properties = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)  # Turing emulates it
    assert Precision.choose("auto", torch.device("cuda", 0)).name == chosen


def test_an_older_torch_leaves_the_question_to_the_kernel(monkeypatch):
    expected = {name: is_native(name, CPU) for name in ("bf16", "fp16", "fp32")}
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert {name: is_native(name, CPU) for name in expected} == expected


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_an_emulated_type_is_warned_of_once(monkeypatch, caplog, name):
    monkeypatch.setattr(errors, "_WARNED", set())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert Precision.choose("auto", CPU).name == Precision.choose("fp32", CPU).name == "fp32"
    assert not caplog.messages
    for _ in range(2):
        assert Precision.choose(name, CPU).name == name
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"this CPU emulates {name}, which can take 20 times as long")


@pytest.mark.slow
def test_onednn_limited_to_avx2_makes_auto_fp32():
    code = (
        "import torch; from engine.precision import Precision; "
        "print(Precision.choose('auto', torch.device('cpu')).name)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], env=os.environ | AVX2, text=True) == "fp32\n"
