"""What seeing costs: CPU per stream-second and final latency without telemetry, with metrics, with every segment traced,
and with a collector that is dead, silent or slow."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import Thread

import numpy as np
import psutil

from benchmarks.paced import load


@contextmanager
def collector(delay_s: float) -> Iterator[str]:
    """An OTLP receiver that says yes to everything, after a while."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def black_hole() -> Iterator[str]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def served(deaf: bool, endpoint: str | None) -> Iterator[tuple[psutil.Process, str]]:
    command = [sys.executable, "-m", "benchmarks.telemetry_server", *(["deaf"] if deaf else [])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if endpoint else {}
    with subprocess.Popen(
        command, env=kept | traced, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield psutil.Process(process.pid), url
        finally:
            process.kill()


def lost(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('streamer_telemetry_dropped_total{signal="spans"}'):
                return float(line.split()[-1])
    return 0.0


def measure(deaf: bool, endpoint: str | None, streams: int, seconds: float) -> tuple[float, list[float], float]:
    """(CPU ms per stream-second, latencies, spans lost)."""
    with served(deaf, endpoint) as (process, url):
        address = url.replace("http", "ws", 1) + "/api/v2/segmented"
        asyncio.run(load(address, 4, 2.0))
        before = process.cpu_times()
        latencies = asyncio.run(load(address, streams, seconds))
        after = process.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        return cpu_s / (streams * seconds) * 1e3, latencies, lost(url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    cpu: dict[str, list[float]] = defaultdict(list)
    heard: dict[str, list[float]] = defaultdict(list)
    gone: dict[str, float] = defaultdict(float)
    with collector(0.0) as well, collector(5.0) as slow, black_hole() as hole:
        variants = {
            "nothing": (True, None),
            "metrics": (False, None),
            "and traces": (False, well),
            "collector dead": (False, "http://127.0.0.1:9"),
            "collector black hole": (False, hole),
            "collector slow (5 s)": (False, slow),
        }
        for _ in range(asked.rounds):
            for name, (deaf, endpoint) in variants.items():
                each, latencies, spans = measure(deaf, endpoint, asked.streams, asked.seconds)
                cpu[name].append(each)
                heard[name] += latencies
                gone[name] += spans
    base = median(cpu["nothing"])
    print(f"{asked.streams} streams of {asked.seconds:g} s, {asked.rounds} rounds")
    print(f"{'':<22}{'CPU ms/stream-s':>16}{'ratio':>8}{'p50 ms':>8}{'p95 ms':>8}{'finals':>8}{'lost':>8}")
    for name, values in cpu.items():
        p50, p95 = np.percentile(heard[name], (50, 95)) * 1e3
        each = median(values)
        print(
            f"{name:<22}{each:>16.3f}{each / base:>8.3f}{p50:>8.0f}{p95:>8.0f}{len(heard[name]):>8}{gone[name]:>8.0f}"
        )


if __name__ == "__main__":
    main()
