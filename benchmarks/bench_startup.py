"""How long it takes to import the package, and to be ready: wall time and CPU of fresh processes.

They find their byte code compiled, as an installed package's is.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from tempfile import TemporaryDirectory

import psutil

ROUNDS = 5
SERVE = (sys.executable, "-m", "streamer", "serve", "stub", "--port", "0", "--grpc-port")


def run_python(code: str) -> float:
    """CPU seconds of a process that runs this."""
    before = _ended_cpu_s()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return _ended_cpu_s() - before


def become_ready(*arguments: str) -> float:
    """CPU seconds of a server, its workers too, until it says that it listens: once the model is warm."""
    with subprocess.Popen([*SERVE, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("listening on "):
                break
        server = psutil.Process(process.pid)
        spent = sum(_cpu_s(one) for one in (server, *server.children(recursive=True)))
        process.kill()
    return spent


def measured(what: Callable[[], float]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    began = time.perf_counter()
    cpu = what()
    return time.perf_counter() - began, cpu


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ended_cpu_s() -> float:
    """Of all processes of ours that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    with TemporaryDirectory() as compiled:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        show()


def show() -> None:
    cases: dict[str, Callable[[], float]] = {
        "python itself": lambda: run_python("pass"),
        "import streamer": lambda: run_python("import streamer"),
        "streamer --help": lambda: run_python("from streamer.cli import app; app(['--help'], standalone_mode=False)"),
        "streamer serve stub, ready": lambda: become_ready("0"),
        "the same with gRPC": lambda: become_ready("-1"),
        "the same with 2 workers": lambda: become_ready("0", "--workers", "2"),
    }
    print(f"seconds, median of {ROUNDS} (least to most); CPU of all its processes")
    for name, case in cases.items():
        case()
        took = [measured(case) for _ in range(ROUNDS)]
        wall, cpu = (f"{median(kind):5.2f} ({min(kind):.2f} to {max(kind):.2f})" for kind in zip(*took, strict=True))
        print(f"  {wall}  CPU {cpu}  {name}")


if __name__ == "__main__":
    main()
