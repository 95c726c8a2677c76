"""What counting and a scrape cost: our counter, histogram and text beside those of prometheus_client."""

from __future__ import annotations

import asyncio
import time
import timeit
from collections.abc import Callable

import prometheus_client
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from streamer.supervision.single_process import loop_factory
from streamer.telemetry.exposition import ExpositionFormat, write_text
from streamer.telemetry.instruments import Counter, Histogram
from streamer.telemetry.telemetry import Telemetry

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


def ms_of_cpu(work: Callable[[], object]) -> float:
    """The best of a hundred runs, in CPU time of this thread."""
    runs = []
    for _ in range(100):
        began = time.thread_time()
        work()
        runs.append(time.thread_time() - began)
    return min(runs) * 1e3


def longest_turn_ms(telemetry: Telemetry, format: ExpositionFormat) -> float:
    """The longest time that a scrape keeps an event loop from its other work, in the best of a hundred scrapes."""

    async def turns() -> float:
        writing = asyncio.create_task(write_text(telemetry._metrics.instruments.collect(), format))
        longest = 0.0
        while not writing.done():
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)
        return longest * 1e3

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return min(runner.run(turns()) for _ in range(100))


def scrapes() -> None:
    telemetry = Telemetry("stub")
    print(f"\n{'ms of CPU, best of 100':<28}{'ours':>6}{'prometheus_client':>20}{'ours, longest turn':>20}")
    for name, kind, theirs in (
        ("text", ExpositionFormat.TEXT, generate_latest),
        ("OpenMetrics", ExpositionFormat.OPENMETRICS, generate_openmetrics),
    ):
        ours = ms_of_cpu(lambda kind=kind: asyncio.run(write_text(telemetry.registry.collect(), kind)))
        other = ms_of_cpu(lambda theirs=theirs: theirs(telemetry.registry))
        print(f"a scrape, {name:<18}{ours:>6.2f}{other:>20.2f}{longest_turn_ms(telemetry, kind):>20.2f}")


if __name__ == "__main__":
    main()
    scrapes()
