"""Counts of several processes as one."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.exposition import generate_latest

from streamer.errors import ErrorCode
from streamer.telemetry.instruments import Instruments
from streamer.telemetry.metrics_merge import MetricsAggregator, ProcessState, pack, unpack
from streamer.telemetry.telemetry import Telemetry


class Process:
    """What one process counts."""

    def __init__(self) -> None:
        self.instruments = make = Instruments("streamer_")
        self.closed = make.counter("closed", "Ended.", how=("stopped", "gone"))
        self.active = make.gauge("active", "Open.")
        self.ready = make.gauge("ready", "Ready.")
        self.took = make.histogram("took_seconds", "Time.", (0.1, 1.0))

    def packed(self) -> bytes:
        return pack(self.instruments.collect())


def value(metrics: Iterable[Metric], name: str, **labels: str) -> float | None:
    found = [it for metric in metrics for it in metric.samples if (it.name, it.labels) == (name, labels)]
    return found[0].value if found else None


class FixedCollector:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def written(packed: bytes) -> str:
    return generate_latest(FixedCollector(list(unpack(packed)))).decode()  # type: ignore[arg-type]


def test_what_was_packed_reads_as_the_registry_did() -> None:
    process = Process()
    process.closed.child("gone").add(3)
    process.took.child().observe(0.5, "0af7651916cd43dd8448eb211c80319c")
    assert written(process.packed()) == generate_latest(process.instruments).decode()  # type: ignore[arg-type]
    assert 'trace_id="0af7651916cd43dd8448eb211c80319c"' in written(process.packed())


def test_counters_histograms_and_gauges_are_added_up() -> None:
    processes = [Process(), Process()]
    for seconds, process in enumerate(processes):
        process.closed.child("gone").add(2)
        process.active.child().set(5)
        process.took.child().observe(seconds)
    whole = list(unpack(MetricsAggregator().merge([process.packed() for process in processes], [])))
    assert value(whole, "streamer_closed_total", how="gone") == 4
    assert value(whole, "streamer_active") == 10
    assert value(whole, "streamer_took_seconds_bucket", le="0.1") == 1
    assert value(whole, "streamer_took_seconds_bucket", le="1.0") == 2
    assert value(whole, "streamer_took_seconds_sum") == 1


def test_a_yes_or_no_is_not_added_up() -> None:
    processes = [Process(), Process(), Process()]
    for ready, process in zip((1, 1, 0), processes, strict=True):
        process.ready.child().set(ready)
    assert (
        value(unpack(MetricsAggregator().merge([process.packed() for process in processes], [])), "streamer_ready") == 0
    )


def test_what_a_server_really_counts_is_added_up() -> None:
    one, other = Telemetry("stub"), Telemetry("stub")
    for telemetry in (one, other, other):
        telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
        telemetry.on_batch_scored(1.0, 0.03)
    text = written(MetricsAggregator().merge([pack(one.registry.collect()), pack(other.registry.collect())], []))
    assert 'streamer_admission_rejected_total{reason="overloaded"} 3.0' in text
    assert 'streamer_rtf_count{stage="vad_processing"} 3.0' in text
    assert 'streamer_build_info{model="stub"' in text
    assert "process_cpu_seconds_total" in text


def test_of_those_that_are_gone_only_what_never_falls_is_kept() -> None:
    here, gone = Process(), Process()
    for process in (here, gone):
        process.closed.child("stopped").add()
        process.active.child().set(5)
        process.took.child().observe(1)
    whole = list(unpack(MetricsAggregator().merge([here.packed()], [gone.packed()])))
    assert value(whole, "streamer_closed_total", how="stopped") == 2
    assert value(whole, "streamer_took_seconds_count") == 2
    assert value(whole, "streamer_active") == 5


def test_the_newest_exemplar_is_kept() -> None:
    older, newer = Process(), Process()
    older.took.child().observe(0.5, "a" * 32)
    newer.took.child().observe(0.5, "b" * 32)
    for order in ([older, newer], [newer, older]):
        text = written(MetricsAggregator().merge([process.packed() for process in order], []))
        assert ("b" * 32 in text, "a" * 32 in text) == (True, False)


def test_a_process_that_never_said_anything_counts_nothing() -> None:
    process = Process()
    assert written(MetricsAggregator().merge([b"", process.packed()], [b""])) == written(process.packed())
    assert list(unpack(MetricsAggregator().merge([], []))) == []


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(0, 6))
def test_a_counter_is_the_same_sum_however_many_are_gone(counts: list[int], gone: int) -> None:
    packed = []
    for count in counts:
        process = Process()
        process.closed.child("gone").add(count)
        packed.append(process.packed())
    tally = MetricsAggregator()
    past = b""
    for one in packed[:gone]:
        past = tally.merge((), [past, one])
    whole = list(unpack(tally.merge(packed[gone:], [past])))
    assert value(whole, "streamer_closed_total", how="gone") == sum(counts)


def test_a_supervisor_says_where_its_processes_stand() -> None:
    own = list(unpack(MetricsAggregator().supervisor_metrics({ProcessState.SERVING: 2, ProcessState.DOWN: 1}, 3)))
    assert value(own, "streamer_processes", state="serving") == 2
    assert value(own, "streamer_processes", state="starting") == 0
    assert value(own, "streamer_process_restarts_total") == 3


def test_the_load_of_several_processes_is_that_of_the_busiest() -> None:
    packed = []
    for load in (0.25, 0.75):
        make = Instruments("streamer_")
        make.gauge("load", "Load.").child().set(load)
        packed.append(pack(make.collect()))
    assert value(unpack(MetricsAggregator().merge(packed, [])), "streamer_load") == 0.75
