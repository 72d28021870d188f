"""NVIDIA's driver and its GPUs, as the driver's own library tells them: without torch and DALI."""

from __future__ import annotations

import ctypes
import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.machine.finding import Finding

_LIBRARY: Final = "libcuda.so.1"
_VERSION: Final = Path("/sys/module/nvidia/version")
_NO_DEVICE: Final = 100
_MAJOR, _MINOR = 75, 76
"""CUDA's numbers of the two halves of the compute capability."""


class DriverError(Exception):
    """The driver is there, and of no use; the message says why."""


@dataclass(frozen=True)
class Driver:
    """A driver that works."""

    cuda: tuple[int, int]
    """The newest CUDA that it runs (major, minor)."""
    gpus: tuple[str, ...]
    """Name, compute capability and memory of each GPU that this process may use."""


def driver() -> Finding:
    """Say which CUDA the driver runs, and on which GPUs."""
    try:
        found = read_driver()
    except DriverError as error:
        remedy = "look at nvidia-smi; after an update of the driver restart the machine"
        return Finding("warning", str(error), remedy)
    if found is None:
        return Finding("absent", f"no {_LIBRARY}: no NVIDIA driver, or a container that was started without --gpus")
    version = _VERSION.read_text().strip() + ", " if _VERSION.is_file() else ""
    counted = Counter(found.gpus)
    gpus = "; ".join(f"{count} x {gpu}" if count > 1 else gpu for gpu, count in counted.items())
    return Finding("ok", f"{version}up to CUDA {found.cuda[0]}.{found.cuda[1]}; {gpus or 'no GPU that may be used'}")


def read_driver() -> Driver | None:
    """Ask the driver; None if there is none. Raises DriverError."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    call = functools.partial(_call, library)
    version, count = ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    cuda = version.value // 1000, version.value % 1000 // 10
    if call("cuInit", 0, allowed=_NO_DEVICE) == _NO_DEVICE:
        return Driver(cuda, ())
    call("cuDeviceGetCount", ctypes.byref(count))
    return Driver(cuda, tuple(_gpu(call, number) for number in range(count.value)))


def _gpu(call: Any, number: int) -> str:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    capability = ctypes.c_int(), ctypes.c_int()
    call("cuDeviceGet", ctypes.byref(device), number)
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    for value, attribute in zip(capability, (_MAJOR, _MINOR), strict=True):
        call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    major, minor = (value.value for value in capability)
    label = name.value.decode(errors="replace")
    return f"{label}, compute capability {major}.{minor}, {memory.value / 2**30:.1f} GiB"


def _call(library: ctypes.CDLL, function: str, *arguments: Any, allowed: int = 0) -> int:
    """Call a function of the library and return its status. Raises DriverError for one that is not allowed."""
    status: int = library[function](*arguments)
    if status in (0, allowed):
        return status
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    raise DriverError(f"{function}: {(text.value or b'unknown error').decode()} (CUDA error {status})")
