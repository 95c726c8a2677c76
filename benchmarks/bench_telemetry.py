"""What seeing costs: a server with no telemetry beside others with metrics, with traces, with bad collectors.

All are loaded at the same time, each by a generator of its own, so that whatever befalls the machine befalls all of
them; a ratio is made of what two servers spent in the same seconds. Each round has new processes: where one's memory
happens to lie is worth a few percent, too. `nothing, again` shows what such differences still are worth.
"""

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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread

import msgspec
import psutil

from benchmarks.bench_end_to_end import LATE_MS
from benchmarks.paced import SETTLE_S, Load, cpu_s
from benchmarks.servers import Server

Variant = tuple[bool, str | None]
"""Deaf or not, and where traces go."""

GATHER_S = 3.0
"""Until the streams of all generators have begun."""


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


def turn(variants: Mapping[str, Variant], load: Load) -> tuple[dict[str, float], dict[str, float], float]:
    """CPU ms a stream-second of each server and the spans it lost, all under this load; how late a message was at most.

    What is measured is a time in which every server has all its streams: neither the first generator's nor the last's.
    """
    with ExitStack() as stack, ThreadPoolExecutor(len(variants)) as pool:
        # All at once: a server that was started before the others spent some percent more.
        started = {name: pool.submit(stack.enter_context, served(*variant)) for name, variant in variants.items()}
        servers = {name: one.result() for name, one in started.items()}
        time.sleep(SETTLE_S)
        longer = msgspec.structs.replace(load, seconds=load.seconds + GATHER_S)
        told = [pool.submit(Server(int(url.rpartition(":")[2]), 0, pid).under, longer) for pid, url in servers.values()]
        time.sleep(GATHER_S)
        processes = {name: psutil.Process(pid) for name, (pid, _) in servers.items()}
        before, began = {name: cpu_s(process) for name, process in processes.items()}, time.monotonic()
        time.sleep(load.seconds)
        stream_s = load.streams * (time.monotonic() - began)
        spent = {name: (cpu_s(process) - before[name]) / stream_s * 1e3 for name, process in processes.items()}
        late_ms = max(one.result().late_ms for one in told)
        return spent, {name: lost(url) for name, (_, url) in servers.items()}, late_ms


def costs(variants: Mapping[str, Variant], load: Load, rounds: int) -> None:
    """Measure and print CPU."""
    measured: dict[str, list[float]] = defaultdict(list)
    gone: dict[str, float] = defaultdict(float)
    names = list(variants)
    for number in range(rounds):
        first = number % len(names)
        spent, dropped, late_ms = turn({name: variants[name] for name in names[first:] + names[:first]}, load)
        print(f"  round {number + 1}: " + ", ".join(f"{name} {spent[name]:.2f}" for name in names), end="")
        if late_ms > LATE_MS:
            print(f" not counted: a generator was late by {late_ms:.0f} ms")
            continue
        print(flush=True)
        for name in names:
            measured[name].append(spent[name])
            gone[name] += dropped[name]
    print(f"{load.streams} streams, median of up to {rounds} rounds of {load.seconds:g} s (least to most)")
    print(f"{'':<22}{'CPU ms/stream-s':>16}  {'ratio':<24}{'spans lost':>10}")
    for name, values in measured.items():
        ratios = [value / nothing for value, nothing in zip(values, measured["nothing"], strict=True)]
        spread = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name:<22}{median(values):>16.3f}  {spread:<24}{gone[name]:>10.0f}")


def latencies(variants: Mapping[str, Variant], streams: int, seconds: float) -> None:
    """Measure and print how long finals took by `streamer bench`, one server after the other."""
    print(f"{'final latency':<22}{'p50 ms':>8}{'p95 ms':>8}")
    for name, variant in variants.items():
        with served(*variant) as (_, url), TemporaryDirectory() as folder:
            out = Path(folder) / "bench"
            stream(url, streams, seconds, out, "--warmup", "2")
            [step] = json.loads(out.with_suffix(".json").read_text())["steps"]
            print(f"{name:<22}{step['final']['p50_ms']:>8.0f}{step['final']['p95_ms']:>8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=40, help="of each server")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round; spans leave each five")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=[], help="some of the variants, beside nothing")
    parser.add_argument("--latencies", action="store_true", help="measure latencies, too")
    asked = parser.parse_args()
    with collector(0.0) as well, collector(5.0) as slow, black_hole() as hole:
        variants: dict[str, Variant] = {
            "nothing": (True, None),
            "metrics": (False, None),
            "and traces": (False, well),
            "collector dead": (False, "http://127.0.0.1:9"),
            "collector silent": (False, hole),
            "collector slow (5 s)": (False, slow),
            "nothing, again": (True, None),
        }
        chosen = {
            name: variants[name]
            for name in variants
            if not asked.only or name.startswith("nothing") or name in asked.only
        }
        costs(chosen, Load(asked.streams, 100, seconds=asked.seconds, dialect="v2"), asked.rounds)
        if asked.latencies:
            latencies(chosen, asked.streams, asked.seconds)


if __name__ == "__main__":
    main()
