"""What one client can cost the others: `python -m benchmarks.attacks`, each attack beside healthy streams.

A hundred streams speak in real time; one, then eight attackers do their worst on other connections. What counts is the
final latency of the healthy, and what the attackers are told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.attackers import KINDS
from benchmarks.servers import ROOT, running

BEGIN_S = 1.5
MAX_P99_MS = 100.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the healthy streams beside an attack. Latencies in ms."""

    p50: float
    p99: float
    lost: int
    cpu: float
    memory_mib: float
    ends: dict[str, int]

    @property
    def holds(self) -> bool:
        return self.p99 <= MAX_P99_MS and not self.lost


def beside(kind: str, attackers: int, *, streams: int, seconds: float) -> Outcome:
    """Healthy streams on a fresh server, beside so many attackers of a kind."""
    with running("ours") as server, tempfile.TemporaryDirectory() as folder:
        process = psutil.Process(server.pid)
        attack = None
        if attackers:
            command = [sys.executable, "-m", "benchmarks.attackers", kind, str(server.port), str(attackers)]
            attack = subprocess.Popen([*command, str(seconds + 8)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        before = process.cpu_times()
        report = Path(folder) / "bench"
        command = [sys.executable, "-m", "streamer", "bench", "-a", f"ws://127.0.0.1:{server.port}/api/v2/segmented"]
        command += ["--streams", str(streams), "--seconds", str(seconds), "--warmup", "2", "--ramp", "1"]
        subprocess.run([*command, "--chunk-ms", "40", "--out", str(report)], cwd=ROOT, check=False, capture_output=True)
        after = process.cpu_times()
        memory = process.memory_info().rss / 2**20
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=5) as answer:
            assert answer.status == 200
        ends = json.loads(attack.communicate(timeout=60)[0] or "{}") if attack else {}
        step = json.loads(report.with_suffix(".json").read_text())["steps"][0]
    return Outcome(
        *(step["final"][name] for name in ("p50_ms", "p99_ms")),
        lost=_lost(step),
        cpu=(after.user + after.system - before.user - before.system) / (seconds + 4),
        memory_mib=memory,
        ends=ends,
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
    todo = [("nothing", 0)] + [(kind, count) for kind in options.kinds for count in counts]
    broken = 0
    console.print("| attack | attackers | final p50, p99 ms | healthy lost | server's CPU | MiB | attackers were |")
    console.print("|---|---|---|---|---|---|---|")
    for kind, count in track(todo, console=Console(stderr=True), description="attacks"):
        got = beside(kind, count, streams=options.streams, seconds=options.seconds)
        ends = ", ".join(f"{end} {times}" for end, times in sorted(got.ends.items(), key=lambda each: -each[1])[:3])
        color = "green" if got.holds else "red"
        broken += not got.holds
        console.print(
            f"| {kind} | {count} | [{color}]{got.p50:.0f}, {got.p99:.0f}[/] | {got.lost} | {got.cpu:.2f} "
            f"| {got.memory_mib:.0f} | {ends} |"
        )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
