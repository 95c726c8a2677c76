"""Compare two versions of the package under load: `python -m benchmarks.compare OLD NEW`, two folders for PYTHONPATH.

    git worktree add /tmp/old HEAD~1 && make -C /tmp/old compiled
    make compiled && python -m benchmarks.compare /tmp/old/build/compiled build/compiled

Both serve in turns, each turn a fresh process; a ratio is made of two turns that follow each other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

from benchmarks.paced import Load
from benchmarks.servers import running


def cpu_ms(package: str, load: Load, server: str) -> float:
    """CPU ms of a server per stream-second; NaN if it did not keep up."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = package
    try:
        with running(server) as served:
            os.environ.pop("PYTHONPATH")
            served.under(Load(50, load.chunk_ms, load.rate, seconds=1.0))
            spent = served.under(load)
            return float("nan") if spent.unread else spent.cpu_ms
    finally:
        if before is not None:
            os.environ["PYTHONPATH"] = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--chunk-ms", type=int, default=20)
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--server", default="ours", choices=("ours", "ours with a thread"))
    options = parser.parse_args()
    load = Load(options.streams, options.chunk_ms, options.rate, options.seconds)
    packages = [str(path.resolve()) for path in (options.old, options.new)]
    ratios = []
    for turn in range(options.rounds):
        order = packages if turn % 2 == 0 else packages[::-1]
        spent = {package: cpu_ms(package, load, options.server) for package in order}
        old, new = (spent[package] for package in packages)
        ratios.append(new / old)
        print(f"{turn + 1}: old {old:.3f}  new {new:.3f} ms a stream-second  new / old {new / old:.3f}", flush=True)
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    print(
        f"new / old {statistics.mean(ratios):.3f} (standard error {spread:.3f}, median {statistics.median(ratios):.3f})"
    )
    sys.exit(0)


if __name__ == "__main__":
    main()
