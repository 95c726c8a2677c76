"""CPU and memory of the server's processes, read from outside."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psutil

from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class UsageSample:
    """A sample. `cpu_s`: since the start, including exited processes. `busy_s`: of the whole machine since its boot.

    `waited_s`: time that threads were ready but had no core, if the system reports it. `rss` in bytes; shared pages are
    counted in each process.
    """

    at: float
    cpu_s: float
    waited_s: float
    rss: int
    busy_s: float
    processes: int


class ProcessSampler:
    """Reads a process tree. Raises ConfigError if it does not exist; a later end gives None."""

    def __init__(self, pid: int) -> None:
        try:
            self._process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise ConfigError(field="--server-pid", expected="a running process", got=pid) from None

    def sample(self) -> UsageSample | None:
        try:
            tree = [self._process, *self._process.children(recursive=True)]
            cpu_s, waited_s, rss = 0.0, 0.0, 0
            with self._process.oneshot():
                for process in tree:
                    used, memory = _read(process)
                    cpu_s += used
                    rss += memory
                    waited_s += _waited_s(process.pid)
        except psutil.NoSuchProcess:
            return None
        return UsageSample(monotonic(), cpu_s, waited_s, rss, machine_busy_s(), len(tree))


def _read(process: psutil.Process) -> tuple[float, int]:
    times = process.cpu_times()
    # The time of a reaped child moves to its parent's children_*: nothing is counted twice or lost.
    children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return times.user + times.system + children, process.memory_info().rss


def _waited_s(pid: int) -> float:
    """Return the waiting time of all threads, from Linux's /proc/PID/task/*/schedstat (ns run, ns waited, count)."""
    waited = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError, ValueError):
            waited += int(path.read_text().split()[1])
    return waited / 1e9


def machine_busy_s() -> float:
    """Return the CPU seconds of all processes of this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
