"""All benchmarks, one after the other, each in a process of its own: `python -m benchmarks`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SHORTER = {
    "bench_end_to_end": ("--rounds", "2"),
    "bench_files": ("--rounds", "2"),
    "bench_grpc": ("--rounds", "2"),
    "bench_memory": ("--rounds", "2"),
    "bench_telemetry": ("--rounds", "1"),
}
"""The long ones take their time only when they are run alone: all of them together should take ten minutes."""


def main() -> int:
    """Run each bench_*.py; returns how many failed."""
    failed = 0
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n=== {path.stem} ===", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{path.stem}", *SHORTER.get(path.stem, ())]
        failed += bool(subprocess.run(command, check=False).returncode)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
