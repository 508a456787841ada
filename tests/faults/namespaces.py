"""Two machines and a cable: network namespaces of a test's own, where packets really get lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.acceptance.cluster import Process, popen

SERVER, CLIENT = "10.231.7.1", "10.231.7.2"
_NOBODY = "02:00:00:00:00:99"
_PREFIX = f"dtm{os.getpid()}"


class Cable:
    """Joins the server's namespace to the client's."""

    def __init__(self, server: str, client: str) -> None:
        self._ends = {server: CLIENT, client: SERVER}
        self.server = server
        self.client = client

    def lose(self, *namespaces: str) -> None:
        """Lose what these send: their neighbour has, for ever, an address that nobody has. No side is told."""
        for name in namespaces:
            _ip("-n", name, "neigh", "replace", self._ends[name], "lladdr", _NOBODY, "dev", "cable", "nud", "permanent")

    def heal(self) -> None:
        """Let everything through again."""
        for name, neighbour in self._ends.items():
            with suppress(subprocess.CalledProcessError):  # it may never have been wrong
                _ip("-n", name, "neigh", "del", neighbour, "dev", "cable")

    def spawn(self, command: Sequence[str], folder: Path, log: Path) -> Process:
        """Start a program on its side: `dtm-server` on the server's, any other on the client's."""
        name = self.server if Path(command[0]).name == "dtm-server" else self.client
        return popen(["ip", "netns", "exec", name, *command], folder, log)


@contextmanager
def cable() -> Iterator[Cable]:
    """Make both namespaces, and take them away."""
    server, client = f"{_PREFIX}s", f"{_PREFIX}c"
    try:
        for name in (server, client):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            with suppress(subprocess.CalledProcessError):  # Linux 6.5 and newer; the older ones wait ever longer
                _ip("netns", "exec", name, "sysctl", "-q", "-w", "net.ipv4.tcp_syn_linear_timeouts=0")
        _ip("-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", client)
        for name, address in ((server, SERVER), (client, CLIENT)):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
        yield Cable(server, client)
    finally:
        for name in (server, client):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)


def why_not() -> str:
    """Say why there can be no namespaces here, nothing if there can."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return "wanted iproute2's `ip`, and root to make network namespaces"
    try:
        with cable():
            return ""
    except subprocess.CalledProcessError as error:
        return f"this system makes no network namespaces: {error.stderr.strip()}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)
