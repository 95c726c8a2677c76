"""What one client can cost the others: `python -m benchmarks.attacks`, each attack beside healthy streams.

A hundred streams speak in real time; one, then eight attackers do their worst from another address. What counts is the
final latency of the healthy, whether newcomers and probes get in, memory, and what the attackers are told.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.attackers import ALONE, KINDS, SEGMENTED
from benchmarks.servers import ROOT, running

MAX_P99_MS = 100.0
NEWCOMER_S = 0.5
"""From one newcomer, and one probe, to the next."""
PROBE = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the healthy streams beside an attack. Latencies in ms."""

    p50: float
    p99: float
    lost: int
    cpu: float
    memory_mib: float
    ends: dict[str, int]
    newcomers: Newcomers

    @property
    def holds(self) -> bool:
        return self.p99 <= MAX_P99_MS and not self.lost and not self.newcomers.refused


@dataclass(slots=True)
class Newcomers:
    """Connections that ask for a session or, as probes, for /readyz while the attack goes on."""

    served: int = 0
    refused: int = 0

    def come(self, port: int, request: bytes, answer: bytes) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(request)
                served = connection.recv(1_024).startswith(answer)
        except OSError:
            served = False
        self.served += served
        self.refused += not served

    @contextmanager
    def coming(self, port: int) -> Iterator[None]:
        over = threading.Event()

        def come() -> None:
            while not over.wait(NEWCOMER_S):
                self.come(port, SEGMENTED, b"HTTP/1.1 101")
                self.come(port, PROBE, b"HTTP/1.1 200")

        thread = threading.Thread(target=come)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def beside(kind: str, attackers: int, *, streams: int, seconds: float) -> Outcome:
    """Healthy streams on a fresh server, beside so many attackers of a kind."""
    with running("ours") as server, tempfile.TemporaryDirectory() as folder:
        process = psutil.Process(server.pid)
        attack = None
        if attackers:
            numbers = (server.port, server.grpc_port, attackers, seconds + 8)
            # Attackers run at a lower priority: the CPU that they use themselves is not a cost of the server.
            command = ["nice", "-n", "10", sys.executable, "-m", "benchmarks.attackers", kind, *map(str, numbers)]
            attack = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        newcomers = Newcomers()
        before = process.cpu_times()
        report = Path(folder) / "bench"
        command = [sys.executable, "-m", "streamer", "bench", "-a", f"ws://127.0.0.1:{server.port}/api/v2/segmented"]
        command += ["--streams", str(streams), "--seconds", str(seconds), "--warmup", "2", "--ramp", "1"]
        command += ["--chunk-ms", "40", "--out", str(report)]
        with newcomers.coming(server.port):
            subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        after = process.cpu_times()
        memory = process.memory_info().rss / 2**20
        ends = json.loads(attack.communicate(timeout=60)[0] or "{}") if attack else {}
        step = json.loads(report.with_suffix(".json").read_text())["steps"][0]
    return Outcome(
        *(step["final"][name] for name in ("p50_ms", "p99_ms")),
        lost=_lost(step),
        cpu=(after.user + after.system - before.user - before.system) / (seconds + 4),
        memory_mib=memory,
        ends=ends,
        newcomers=newcomers,
    )


def _lost(step: dict[str, Any]) -> int:
    """Healthy streams that were refused, cut off, or lost audio."""
    hurt = sum(1 for stream in step["each"] if stream["ending"] or stream["lost"])
    return int(hurt + len(step["refused"]) + step["streams"] - step["opened"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--attackers", default="1,8")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    counts = [int(count) for count in options.attackers.split(",")]
    console = Console(width=max(100, int(os.environ.get("COLUMNS", "120"))), highlight=False)
    todo = [("nothing", 0)]
    todo += [(kind, count) for kind in options.kinds for count in counts if count == counts[0] or kind not in ALONE]
    broken = 0
    console.print(
        "| attack | attackers | final p50, p99 ms | healthy lost | newcomers and probes refused | server's CPU | MiB "
        "| attackers were |\n|---|---|---|---|---|---|---|---|"
    )
    for kind, count in track(todo, console=Console(stderr=True), description="attacks"):
        got = beside(kind, count, streams=options.streams, seconds=options.seconds)
        ends = ", ".join(f"{end} {times}" for end, times in sorted(got.ends.items(), key=lambda each: -each[1])[:3])
        color = "green" if got.holds else "red"
        broken += not got.holds
        console.print(
            f"| {kind} | {count} | [{color}]{got.p50:.0f}, {got.p99:.0f}[/] | {got.lost} "
            f"| {got.newcomers.refused} of {got.newcomers.refused + got.newcomers.served} | {got.cpu:.2f} "
            f"| {got.memory_mib:.0f} | {ends} |"
        )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
