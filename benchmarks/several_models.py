"""Two models in one server, 50 streams each, one overloaded: `python -m benchmarks.several_models`.

The crowd of `quick` is measured alone, beside a crowd that `slow` can serve, and beside one that it cannot. The models
sleep instead of computing, in threads or in processes of their own, so what is measured is the server.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import msgspec

from benchmarks.under_load import ws
from streamer.cli.server_subprocess import ServerSubprocess, run_server
from streamer.loadtest.results import LoadStep

SETTINGS = """
[models.quick]
model = "stub"
executor = "{executor}"
delay = 0.005

[models.slow]
model = "stub"
executor = "{executor}"
delay = {delay}
timeout_floor_s = 600.0
load = "first_use"

[models.slow.engine]
max_pending_items = 200
max_expected_wait_s = 3600
max_pending_seconds = 36000
"""
SCENES = {"quick alone": None, "slow in time": 0.01, "slow overloaded": 0.5}
"""Seconds of each call of `slow`; None: nobody calls it."""


class Report(msgspec.Struct):
    """The part of a report that is read here."""

    steps: list[LoadStep]


async def crowd(child: ServerSubprocess, model: str, streams: int, seconds: float, folder: Path) -> LoadStep:
    """Measure a crowd with `streamer bench`, in processes of its own."""
    out = folder / f"{model}-{time.monotonic_ns()}"
    address = f"{ws(child, f'models/{model}/segmented')}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "bench", "-a", address, "--streams", str(streams)),
        *("--seconds", f"{seconds:g}", "--out", str(out), "--duty", "0.8"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    return msgspec.json.decode(out.with_name(out.name + ".json").read_bytes(), type=Report).steps[0]


def refused(child: ServerSubprocess) -> float:
    with urllib.request.urlopen(f"{child.address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("streamer_admission_rejected_total"))


async def scene(name: str, executor: str, streams: int, seconds: float) -> None:
    delay = SCENES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "models.toml"
        file.write_text(SETTINGS.format(executor=executor, delay=delay or 0.01))
        async with run_server("--config", str(file)) as child:
            crowds = [crowd(child, "quick", streams, seconds, folder)]
            if delay is not None:
                crowds.append(crowd(child, "slow", streams, seconds, folder))
            steps = await asyncio.gather(*crowds)
            turned_away = await asyncio.to_thread(refused, child)
    for model, step in zip(("quick", "slow"), steps, strict=False):
        final = step.final
        print(
            f"{executor:8} {name:16} {model:6} {step.opened:3} streams, {final.count:4} finals, "
            f"p50 {final.p50_ms:8.1f} p95 {final.p95_ms:8.1f} p99 {final.p99_ms:8.1f} max {final.max_ms:8.1f} ms, "
            f"lost frames {step.frames.lost}, sent late p99 {step.load.late.p99_ms:.1f} ms, refused {turned_away:g}",
            flush=True,
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--executors", default="thread,process")
    options = parser.parse_args()
    for executor in options.executors.split(","):
        for name in SCENES:
            await scene(name, executor, options.streams, options.seconds)


if __name__ == "__main__":
    asyncio.run(main())
