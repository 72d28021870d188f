"""What is said where processes lose each other: which one failed or hangs, and where the network does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist

_ANSWER_TIMEOUT: Final = 10.0
"""How long the other processes have to say how they ended, once an exchange broke off (seconds)."""
_STORE_TIMEOUT: Final = 5.0
"""How much longer torchrun's store may take to say so; where the network is down, a question never ends (seconds)."""
_GLOO_ERRORS: Final = ("gloo", "pair closure")
"""Gloo raises plain RuntimeErrors. They name its source file, or, after a time-out, only that a pair was closed."""
_SIOCGIFADDR: Final = 0x8915
"""Linux's request for the address of a network interface."""


def is_broken_exchange(error: Exception) -> bool:
    """Whether an error says that an exchange with another process broke off."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GLOO_ERRORS)


class Answers:
    """How processes ended, each by its own words, in torchrun's store."""

    def __init__(self, store: Any, rank: int, hosts: Sequence[str]) -> None:
        """Look at a store.

        Args:
            store: which all processes reach as long as there is a network.
            rank: of this process.
            hosts: name of each process's host, by rank.
        """
        self._store = store
        self._rank = rank
        self._hosts = hosts

    def give(self, error: str) -> None:
        """Tell the others what ends this process; empty if they do, or the network."""
        with contextlib.suppress(dist.DistError):
            self._store.set(f"ended/{self._rank}", error)

    def reason(self, timeout: float) -> str:
        """Return which processes failed, and why, or did not answer, or that the network between them failed.

        `monitored_barrier` does not suffice: it tells rank 0 alone who is missing, nobody if that is rank 0, and it
        needs a group whose exchanges have not timed out.

        Args:
            timeout: how long the exchange that broke off waited (seconds).
        """
        count = len(self._hosts)
        found: list[dict[int, str]] = []
        thread = threading.Thread(target=self._ask, args=[found], daemon=True)  # left behind if it does not come back
        thread.start()
        thread.join(_ANSWER_TIMEOUT + _STORE_TIMEOUT)
        if not found:
            return (
                f"process {self._rank} of {count} on {self._hosts[self._rank]} reaches neither the other processes nor "
                f"{os.environ['MASTER_ADDR']}, where the nodes meet: look at the network between them, and whether "
                "torchrun still runs there"
            )
        (errors,) = found
        reasons = [f"process {rank} on {self._hosts[rank]} failed: {error}" for rank, error in errors.items() if error]
        missing: dict[str, list[str]] = {}
        for other in set(range(count)) - {self._rank} - errors.keys():
            missing.setdefault(self._hosts[other], []).append(f"process {other}")
        reasons += [
            f"{' and '.join(processes)} of {count} on {host} did not answer within {timeout:g} s or was killed: look "
            "at its output, its machine and the network; more patience is distributed.timeout"
            for host, processes in missing.items()
        ]
        return "; ".join(reasons) or (
            f"all {count} processes are alive, but an exchange between them broke off: look at the network of "
            f"{' and '.join(dict.fromkeys(self._hosts))}"
        )

    def _ask(self, found: list[dict[int, str]]) -> None:
        keys = {other: f"ended/{other}" for other in range(len(self._hosts)) if other != self._rank}
        with contextlib.suppress(dist.DistError):
            with contextlib.suppress(dist.DistStoreError):  # not all have come
                self._store.wait(list(keys.values()), timedelta(seconds=_ANSWER_TIMEOUT))
            came = {other: key for other, key in keys.items() if self._store.check([key])}
            found.append({other: self._store.get(key).decode() for other, key in came.items()})


def unconnected(error: RuntimeError, rank: int, world_size: int) -> str:
    """Say why this process cannot connect to the others, which address it offered them, and what to set."""
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    offered = f"that of interface {interface}" if interface else f"{_address_of_name()}, from its host name"
    shared = _interface_to(os.environ["MASTER_ADDR"])
    return (
        f"process {rank} of {world_size} on {socket.gethostname()} cannot connect to the others "
        f"({str(error).partition(chr(10))[0]}). The address that it offers them is {offered}: if they are on other "
        "nodes and cannot reach that, set GLOO_SOCKET_IFNAME, and NCCL_SOCKET_IFNAME for GPUs, on every node to the "
        f"interface between the nodes{f', here {shared}' if shared else ''} (docs/multi-node.md)"
    )


def _address_of_name() -> str:
    """Return the address that gloo takes for this machine: the first usable one of its host name, or loopback."""
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return str(address[0])
    return "127.0.0.1"


def _interface_to(host: str) -> str:
    """Return name and address of the network interface that leads to another machine; empty if that is unknown."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 1))  # sends nothing
        address = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                entry = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(entry[20:24]) == address and not address.startswith("127."):
                    return f"{name} ({address})"
    return ""
