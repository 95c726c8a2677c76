"""All benchmarks in turn: one that fails, or hangs, hides no other's results."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import Benchmark, clock, found, run, run_all


def python(name: str, code: str) -> Benchmark:
    return Benchmark(name, ("-c", code))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # where nobody asks for its status
    except psutil.NoSuchProcess:
        return True


async def test_one_that_fails_is_named_at_the_end_and_the_others_run(capfd: pytest.CaptureFixture[str]) -> None:
    benchmarks = [python("first", "print('one')"), python("bad", "1 / 0"), python("last", "print('three')")]
    assert await run_all(benchmarks) == 1
    said = capfd.readouterr().out
    for words in ("1 of 3: first", "one\n", "2 of 3: bad", "ZeroDivisionError", "3 of 3: last", "three\n"):
        assert words in said
    assert said.endswith(" 1 failed\n  bad ended with status 1\n")


async def test_where_none_fails_the_exit_status_is_0(capfd: pytest.CaptureFixture[str]) -> None:
    assert await run_all([python("only", "print('it')")]) == 0
    assert capfd.readouterr().out.endswith("none failed\n")


async def test_one_that_hangs_has_failed_and_so_have_its_processes(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid))\n"
        "child.wait()"
    )
    assert await run(python("hung", code), limit_s=3.0) == "had not ended after 3 s"
    while not gone(int(started.read_text())):  # a kill takes its moment
        await asyncio.sleep(0.01)


def test_every_benchmark_is_found_by_its_file() -> None:
    files = Path("benchmarks").glob("bench_*.py")
    assert {benchmark.name for benchmark in found().values()} == {file.stem for file in files}


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (600, "10:00")])
def test_a_time_is_told_in_minutes_and_seconds(seconds: float, words: str) -> None:
    assert clock(seconds) == words
