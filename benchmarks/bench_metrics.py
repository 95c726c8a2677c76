"""What counting costs: our counter and histogram beside prometheus_client's, one call each."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import prometheus_client

from streamer.telemetry.instruments import Counter, Histogram

BOUNDS = tuple(0.001 * 2 ** (step / 2) for step in range(21))
LOW, HIGH = BOUNDS[0], 2 * BOUNDS[-1]
"""Of observations: prometheus_client walks the buckets from the lowest."""
CALLS = 100_000


def us_a_call(call: Callable[[], None]) -> float:
    """The best of five runs: the others tell about the machine's neighbours."""
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    counter, histogram = Counter(), Histogram(BOUNDS)
    theirs = prometheus_client.Counter("count", "Counts.", registry=None)
    their_histogram = prometheus_client.Histogram("took", "Observes.", buckets=BOUNDS, registry=None)
    print(f"us a call, best of 5 runs; histograms with {len(BOUNDS)} buckets")
    print(f"{'':<28}{'ours':>6}{'prometheus_client':>20}")
    for name, ours, other in (
        ("a counter", counter.add, theirs.inc),
        ("a histogram, lowest bucket", lambda: histogram.observe(LOW), lambda: their_histogram.observe(LOW)),
        ("a histogram, past the last", lambda: histogram.observe(HIGH), lambda: their_histogram.observe(HIGH)),
    ):
        print(f"{name:<28}{us_a_call(ours):>6.2f}{us_a_call(other):>20.2f}")


if __name__ == "__main__":
    main()
