"""A Ray cluster of a test's own: a head and nodes with ports, a folder and a token of their own, and an end."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.architecture import ROOT

START_S = 90.0
RAY = Path(sys.executable).with_name("ray")
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
}
"""What docs/how/scale-out.md tells an operator to set: a lost node is known after 8.5 s instead of more than 40 s."""


def until(condition: Callable[[], object], within_s: float = START_S) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_up(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


class Node:
    """The processes of one Ray node. They are killed by their ids."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output
        self._family: dict[int, psutil.Process] = {}

    @property
    def family(self) -> list[psutil.Process]:
        """All processes that live, the first one's descendants too."""
        try:
            first = psutil.Process(self.process.pid)
            for each in (first, *first.children(recursive=True)):
                self._family.setdefault(each.pid, each)
        except psutil.NoSuchProcess:
            pass
        return [each for each in self._family.values() if each.is_running()]

    def find(self, name: str) -> list[psutil.Process]:
        return [each for each in self.family if name in each.name()]

    def wait(self) -> None:
        """Wait until it has joined. Two that start in one folder at the same time hinder each other."""
        until(lambda: b"Ray runtime started" in self.output.read_bytes())

    def signal(self, number: int) -> None:
        for each in self.family:
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def kill(self) -> None:
        """Like a machine that loses its power. (Twice, because one of them may just have started another.)"""
        for _ in range(2):
            self.signal(signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A head that runs no model, and nodes that do."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port(host)
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path is short
        self.token = self.folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.environment = {
            **HEALTH,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self.nodes: list[Node] = []
        self.head: Node | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start_head(self) -> Node:
        self.head = self._start(
            [
                "--head", f"--node-ip-address={self.host}", f"--port={self.port}", f"--temp-dir={self.folder}",
                f"--ray-client-server-port={free_port(self.host)}", "--include-dashboard=false", "--num-cpus=0",
                "--resources={\"front\": 100}",
            ],
            [],
        )  # fmt: skip
        until(lambda: is_up(self.host, self.port) and self.head is not None and self.head.find("raylet"))
        return self.head

    def start_node(self, address: str = "", prefix: list[str] | None = None) -> Node:
        own = [f"--node-ip-address={address}"] if address else []
        arguments = [f"--address={self.address}", "--num-cpus=1", '--resources={"gpu_node": 4}', *own]
        return self._start(arguments, prefix or [])

    def stop(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, arguments: list[str], prefix: list[str]) -> Node:
        output = self.folder / f"node-{len(self.nodes)}.txt"
        environment = {**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, str(RAY), "start", "--block", "--object-store-memory=100000000", "--disable-usage-stats",
                 *arguments],
                env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True, cwd=ROOT,
            )  # fmt: skip
        node = Node(process, output)
        self.nodes.append(node)
        return node


def has_namespaces() -> bool:
    """Whether hosts of a test's own can be made."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """Two hosts in network namespaces, and a bridge to them."""

    PREFIX = "10.77.0"

    def __enter__(self) -> Network:
        self.__exit__()
        ip("link", "add", "streamer-br", "type", "bridge")
        ip("addr", "add", f"{self.PREFIX}.1/24", "dev", "streamer-br")
        ip("link", "set", "streamer-br", "up")
        for number in (11, 12):
            space, veth = f"streamer-{number}", f"streamer-v{number}"
            ip("netns", "add", space)
            ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", veth, "master", "streamer-br")
            ip("link", "set", veth, "up")
            ip("-n", space, "addr", "add", f"{self.PREFIX}.{number}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        # A namespace lives until its last process has ended, and its cable with it.
        cables = (["link", "del", f"streamer-v{number}"] for number in (11, 12))
        spaces = (["netns", "del", f"streamer-{number}"] for number in (11, 12))
        for words in (["link", "del", "streamer-br"], *cables, *spaces):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(*words)

    def start_node(self, cluster: Cluster, number: int) -> Node:
        return cluster.start_node(f"{self.PREFIX}.{number}", ["ip", "netns", "exec", f"streamer-{number}"])

    def cable(self, number: int, state: str) -> None:
        ip("link", "set", f"streamer-v{number}", state)
