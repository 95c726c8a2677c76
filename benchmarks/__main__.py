"""All benchmarks, one after the other, each in a process of its own: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SHORTER = {
    "bench_end_to_end": ("--rounds", "2"),
    "bench_engine": ("--seconds", "3"),
    "bench_files": ("--rounds", "2"),
    "bench_grpc": ("--rounds", "2"),
    "bench_media": ("--streams", "20", "--hours", "0.1"),
    "bench_memory": ("--rounds", "2"),
    "bench_telemetry": ("--rounds", "1", "--seconds", "5"),
    "bench_utterance": ("--rounds", "2"),
}
"""The long ones take their time only when they are run alone: all of them together take less than ten minutes."""
LIMIT_S = 300.0
"""One that has not ended by then has failed."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A name, and what Python is told."""

    name: str
    arguments: tuple[str, ...]


def found() -> dict[str, Benchmark]:
    """Each bench_*.py here, by its name without that, shortened."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    return {
        name.removeprefix("bench_"): Benchmark(name, ("-m", f"benchmarks.{name}", *SHORTER.get(name, ())))
        for name in names
    }


async def run(benchmark: Benchmark, limit_s: float = LIMIT_S) -> str:
    """Passes on what it says, as it says it. What went wrong, or nothing; no process of its own outlives it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", *benchmark.arguments), stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            async for line in process.stdout:
                print(line.decode(errors="replace"), end="", flush=True)
            status = await process.wait()
            return f"ended with status {status}" if status else ""
    except TimeoutError:
        return f"had not ended after {limit_s:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def run_all(benchmarks: Sequence[Benchmark]) -> int:
    """Each in turn, whatever became of those before it. The exit status: 1 where one failed."""
    failed: dict[str, str] = {}
    began = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # A terminal shows both together; results that go to a file leave the terminal to the progress.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        progress.add_task("all")
        for number, benchmark in enumerate(benchmarks, 1):
            place = f"{number} of {len(benchmarks)}: {benchmark.name}"
            print(f"\n=== {place} ({clock(time.monotonic() - began)} so far) ===", flush=True)
            task, own = progress.add_task(place), time.monotonic()
            if trouble := await run(benchmark):
                failed[benchmark.name] = trouble
                print(f"{benchmark.name} {trouble}")
            print(f"({time.monotonic() - own:.0f} s)", flush=True)
            progress.remove_task(task)
    print(f"\n{len(benchmarks)} benchmarks in {clock(time.monotonic() - began)}, {len(failed) or 'none'} failed")
    for name, trouble in failed.items():
        print(f"  {name} {trouble}")
    return 1 if failed else 0


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def main() -> int:
    every = found()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(every)}; all if none")
    names = parser.parse_args().names or list(every)
    if unknown := sorted(set(names) - set(every)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(every)}")
    return asyncio.run(run_all([every[name] for name in names]))


if __name__ == "__main__":
    sys.exit(main())
