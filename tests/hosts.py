"""Two hosts on this machine: namespaces with a cable between them, which go with the process that made them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes import children_of

CABLE: Final = "cable"
"""Network interface of each host."""
_NAMESPACES: Final = ("--net", "--uts", "--mount", "--pid")


@dataclass(frozen=True)
class Host:
    """A host with a name, an address, and processes of its own."""

    name: str
    address: str
    pid: int
    """Its first process: the kernel ends all others with it, and interface and mounts go."""

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command there; ``options`` are those of Popen."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        enter = ["nsenter", f"--target={self.pid}", *_NAMESPACES, f"--wdns={Path.cwd()}"]
        return subprocess.Popen([*enter, *command], text=True, **options)

    def run(self, *command: str) -> None:
        """Run a command there, which succeeds."""
        process = self.start(list(command))
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0, said

    def plug(self) -> None:
        """Plug the cable in."""
        self.run("ip", "link", "set", CABLE, "up")

    def unplug(self) -> None:
        """Pull the cable out."""
        self.run("ip", "link", "set", CABLE, "down")


@contextlib.contextmanager
def two_hosts(folder: Path, *, own_address: str = "") -> Iterator[list[Host]]:
    """Make node0 and node1, 10.91.0.1 and 10.91.0.2; skip the test where that is not permitted.

    Args:
        folder: for their files of host names.
        own_address: what each takes for the address of its own name; empty for the true one.
    """
    addresses = {f"node{number}": f"10.91.0.{number + 1}" for number in range(2)}
    with contextlib.ExitStack() as opened:
        hosts = []
        for name, address in addresses.items():
            known = {"localhost": "127.0.0.1"} | addresses | {name: own_address or address}
            (folder / name).write_text("".join(f"{known[each]} {each}\n" for each in known))
            hosts.append(opened.enter_context(_host(name, address, folder / name)))
        ends = [["netns", str(host.pid)] for host in hosts]
        command = ["ip", "link", "add", "name", CABLE, *ends[0], "type", "veth", "peer", "name", CABLE, *ends[1]]
        added = subprocess.run(command, check=False, capture_output=True, text=True)
        if added.returncode:
            pytest.skip(f"no cable between network namespaces: {added.stderr.strip()}")
        for host in hosts:
            host.run("ip", "address", "add", f"{host.address}/24", "dev", CABLE)
            host.plug()
        yield hosts


@contextlib.contextmanager
def _host(name: str, address: str, names: Path) -> Iterator[Host]:
    prepare = f"hostname {name} && mount --bind '{names}' /etc/hosts && ip link set lo up && echo ready && exec cat"
    command = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "sh", "-c", prepare]
    try:
        # `cat` ends with the pipe that it reads, whatever ends this process
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        pytest.skip(f"no network namespaces: {error}")
    try:
        if (said := holder.stdout.readline()) != "ready\n":
            pytest.skip(f"no network namespaces: {said.strip()}")
        yield Host(name, address, children_of(holder)[0])
    finally:
        holder.communicate()
