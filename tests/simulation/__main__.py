"""`python -m tests.simulation --seeds 1000`: many worlds, progress, and the seed of each that broke a promise."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from rich.progress import track

from tests.simulation.world import Score, World


def play(seed: int) -> tuple[int, Score | None, str]:
    try:
        return seed, World(seed).run(), ""
    except BaseException:  # noqa: BLE001 (reported with its seed)
        return seed, None, traceback.format_exc()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed; one alone replays exactly")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    total, broken, began = Score(), [], time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        seeds = range(options.first, options.first + options.seeds)
        for seed, score, trace in track(pool.map(play, seeds, chunksize=4), "simulating", total=len(seeds)):
            if score is None:
                broken.append(seed)
                print(f"seed {seed} broke a promise:\n{trace}", file=sys.stderr)
            else:
                total.add(score)
    took = time.perf_counter() - began
    print(f"{len(seeds)} worlds, {total.sessions} sessions ({total.sessions / took:.0f}/s), {total.streams} streams")
    print(
        f"{total.events} events, {total.refused} refused, {total.virtual_s / 3600:.1f} h of their time in {took:.0f} s"
    )
    print(f"faults: {dict(total.faults)} ({sum(total.faults.values()) / took:.1f} a second)")
    print(f"ends: {dict(total.ends)}")
    print(f"broken: {broken or 'none'}")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
