"""What seeing costs: CPU and latency with no telemetry, with metrics, with traces, with collectors that misbehave."""

from __future__ import annotations

import argparse
import json
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
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread


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
def served(deaf: bool, endpoint: str | None) -> Iterator[tuple[int, str]]:
    command = [sys.executable, "-m", "benchmarks.telemetry_server", *(["deaf"] if deaf else [])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if endpoint else {}
    with subprocess.Popen(
        command, env=kept | traced, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield process.pid, url
        finally:
            process.kill()


def lost(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('streamer_telemetry_dropped_total{signal="spans"}'):
                return float(line.split()[-1])
    return 0.0


def stream(url: str, streams: int, seconds: float, out: Path, *more: str) -> None:
    """`streamer bench` with messages of 100 ms against the server at `url`."""
    address = url.replace("http", "ws", 1) + "/api/v2/segmented"
    command = [sys.executable, "-m", "streamer", "bench", "--address", address, "--chunk-ms", "100"]
    command += ["--streams", str(streams), "--seconds", str(seconds), "--out", str(out), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def load(url: str, pid: int, streams: int, seconds: float) -> tuple[float, float, float]:
    """CPU ms per stream-second, and the median and the 95th percentile of final latency in ms, by `streamer bench`."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "bench"
        stream(url, streams, seconds, out, "--server-pid", str(pid), "--warmup", "2")
        [step] = json.loads(out.with_suffix(".json").read_text())["steps"]
        return step["server"]["cpu_ms_per_stream_s"], step["final"]["p50_ms"], step["final"]["p95_ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="some of the variants")
    asked = parser.parse_args()
    measured: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    gone: dict[str, float] = defaultdict(float)
    with collector(0.0) as well, collector(5.0) as slow, black_hole() as hole:
        variants = {
            "nothing": (True, None),
            "metrics": (False, None),
            "and traces": (False, well),
            "collector dead": (False, "http://127.0.0.1:9"),
            "collector silent": (False, hole),
            "collector slow (5 s)": (False, slow),
        }
        for _ in range(asked.rounds):
            for name in asked.only or variants:
                with served(*variants[name]) as (pid, url):
                    measured[name].append(load(url, pid, asked.streams, asked.seconds))
                    gone[name] += lost(url)
    print(f"{asked.streams} streams of {asked.seconds:g} s, {asked.rounds} rounds: least CPU, median latencies")
    print(f"{'':<22}{'CPU ms/stream-s':>16}{'ratio':>8}{'p50 ms':>8}{'p95 ms':>8}{'lost':>8}")
    base = min(each for each, _, _ in measured["nothing"])
    for name, rounds in measured.items():
        cpu = min(each for each, _, _ in rounds)
        p50, p95 = (median(column) for column in list(zip(*rounds, strict=True))[1:])
        print(f"{name:<22}{cpu:>16.3f}{cpu / base:>8.3f}{p50:>8.0f}{p95:>8.0f}{gone[name]:>8.0f}")


if __name__ == "__main__":
    main()
