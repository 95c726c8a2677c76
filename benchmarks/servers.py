"""The servers that are measured beside each other, as processes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.paced import CpuUsage, Load

ROOT = Path(__file__).parent.parent
READY_TIMEOUT_S = 60.0

COMMANDS = {
    "ours": ("-m", "streamer", "serve", "stub", "--grpc-port", "{grpc_port}", "--port"),
    "ours with a thread": (
        *("-m", "streamer", "serve", "stub", "--set", "server.scoring=thread"),
        *("--grpc-port", "{grpc_port}", "--port"),
    ),
    "ours with a slow model": (
        *("-m", "streamer", "serve", "stub", "--set", "model.delay=20", "--set", "model.timeout_floor_s=60"),
        *("--grpc-port", "{grpc_port}", "--port"),
    ),
    "plain": ("-m", "benchmarks.plain_server", "--port"),
    "floor": ("-m", "benchmarks.floor_server", "--port"),
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    port: int
    grpc_port: int
    pid: int

    def under(self, load: Load, *, grpc: bool = False) -> CpuUsage:
        """What it spends under this load, which another process makes."""
        options = {"streams": load.streams, "chunk-ms": load.chunk_ms, "rate": load.rate, "seconds": load.seconds}
        flags = [f"--{name}={value}" for name, value in options.items()]
        how, port = ("benchmarks.paced_grpc", self.grpc_port) if grpc else ("benchmarks.paced", self.port)
        flags += [] if grpc else [f"--dialect={load.dialect}"]
        command = [sys.executable, "-m", how, str(port), str(self.pid), *flags]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
        return msgspec.json.decode(told.stdout, type=CpuUsage)


@contextmanager
def running(name: str) -> Iterator[Server]:
    """One of COMMANDS on a free port, ready; killed afterwards."""
    port, grpc_port = _free_port(), _free_port()
    command = [sys.executable, *(word.format(grpc_port=grpc_port) for word in COMMANDS[name]), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        try:
            _wait_until_ready(port, process)
            yield Server(port, grpc_port, process.pid)
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args} was not ready within {READY_TIMEOUT_S:.0f} s")
