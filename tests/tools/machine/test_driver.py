"""The driver's library, played by one that is compiled here: the real one needs a GPU."""

import shutil
import subprocess

import pytest
import torch

from tests.tools.machine.environments import add_distribution, examine, python_without
from tools.machine.finding import Finding

pytestmark = pytest.mark.slow

LIBRARY = r"""
#include <stddef.h>
#include <string.h>
int cuDriverGetVersion(int *version) { *version = DRIVER; return 0; }
int cuInit(unsigned flags) { return flags ? 1 : STATUS; }
int cuDeviceGetCount(int *count) { *count = 3; return 0; }
int cuDeviceGet(int *device, int number) { *device = 40 + number; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device < 42 ? "NVIDIA Large" : "NVIDIA Small", size); return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (device < 42 ? 80ul : 8ul) << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device < 42 ? 9 : 7) : attribute == 76 ? (device < 42 ? 0 : 5) : -1; return 0;
}
int cuGetErrorString(int status, const char **text) { *text = "the words of the driver"; return 0; }
"""


@pytest.fixture
def driver(tmp_path):
    """Return a function that makes such a library and gives the folder where it lies."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def build(version: int, status: int = 0) -> str:
        (tmp_path / "cuda.c").write_text(LIBRARY)
        definitions = [f"-DDRIVER={version}", f"-DSTATUS={status}"]
        library = ["-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c"]
        subprocess.run(["cc", *definitions, *library], check=True)
        return str(tmp_path)

    return build


def test_a_driver_tells_its_cuda_and_its_gpus(driver):
    finding = examine("driver:driver", LD_LIBRARY_PATH=driver(12080))
    assert finding.status == "ok"
    assert finding.found.endswith(
        "up to CUDA 12.8; 2 x NVIDIA Large, compute capability 9.0, 80.0 GiB; "
        "NVIDIA Small, compute capability 7.5, 8.0 GiB"
    )


def test_a_driver_without_a_gpu(driver):
    finding = examine("driver:driver", LD_LIBRARY_PATH=driver(13000, status=100))
    assert finding.status == "ok"
    assert finding.found.endswith("up to CUDA 13.0; no GPU that may be used")


def test_a_driver_that_does_not_start_is_a_warning_in_its_own_words(driver):
    assert examine("driver:driver", LD_LIBRARY_PATH=driver(13000, status=803)) == Finding(
        "warning",
        "cuInit: the words of the driver (CUDA error 803)",
        "look at nvidia-smi; after an update of the driver restart the machine",
    )


def test_a_driver_that_is_damaged_is_no_driver(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    assert examine("driver:driver", LD_LIBRARY_PATH=str(tmp_path)).status in ("absent", "ok")


def test_dali_is_held_against_the_driver(driver):
    pytest.importorskip("nvidia.dali")
    finding = examine("decoding:dali", LD_LIBRARY_PATH=driver(12080))
    assert finding.status == "warning"
    assert "built for CUDA 13, decodes JPEGs on the CPU; the driver runs CUDA 12 at most" in finding.found
    assert finding.remedy == "pip uninstall nvidia-dali-cuda130, then pip install nvidia-dali-cuda120"
    assert examine("decoding:dali", LD_LIBRARY_PATH=driver(13000)).status == "ok"


def test_dali_is_held_against_torch(driver, tmp_path):
    pytest.importorskip("nvidia.dali")
    if not (torch.version.cuda or "").startswith("13."):
        pytest.skip("torch is built for another CUDA")
    python = python_without(tmp_path / "venv", "nvidia_dali_cuda130*")
    add_distribution(python, "nvidia-dali-cuda120", "2.4.0")
    finding = examine("decoding:dali", python=python, LD_LIBRARY_PATH=driver(13000))
    assert finding.status == "warning"
    assert finding.found.endswith(
        f"built for CUDA 12, decodes JPEGs on the CPU; torch is built for CUDA {torch.version.cuda}"
    )
    assert finding.remedy == "pip uninstall nvidia-dali-cuda120, then pip install nvidia-dali-cuda130"
