"""All benchmarks, one after the other, each in a process of its own: `python -m benchmarks`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run each bench_*.py; returns how many failed."""
    failed = 0
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n=== {path.stem} ===", flush=True)
        began = time.monotonic()
        failed += bool(subprocess.run([sys.executable, "-m", f"benchmarks.{path.stem}"], check=False).returncode)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
