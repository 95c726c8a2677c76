"""Metrics as text: what prometheus_client would write of them, in pieces between which the loop comes round."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Exemplar

from streamer.errors import ErrorCode
from streamer.telemetry.exposition import SAMPLES_AT_A_TIME, ExpositionFormat, write_text
from streamer.telemetry.telemetry import Telemetry

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2"
)


class FixedCollector:
    """Metrics as a collector, for prometheus_client."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


def counted() -> list[Metric]:
    """What a server has after it has done something of each kind."""
    telemetry = Telemetry('a model\nof "mine" \\ \'')
    telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    telemetry.on_batch_scored(1.0, 0.3)
    telemetry._metrics.final_latency.child().observe(0.5, "0af7651916cd43dd8448eb211c80319c")
    return list(telemetry.registry.collect())


async def test_text_reads_as_that_of_prometheus_client() -> None:
    metrics = counted()
    ours = (await write_text(metrics, ExpositionFormat.TEXT)).decode()
    theirs = generate_latest(FixedCollector(metrics)).decode()  # type: ignore[arg-type]
    assert list(read_text(ours)) == list(read_text(theirs))
    assert ours.count("\n") == theirs.count("\n")


async def test_openmetrics_reads_as_that_of_prometheus_client_exemplars_included() -> None:
    metrics = counted()
    ours = (await write_text(metrics, ExpositionFormat.OPENMETRICS)).decode()
    theirs = generate_openmetrics(FixedCollector(metrics)).decode()  # type: ignore[arg-type]
    assert list(read_openmetrics(ours)) == list(read_openmetrics(theirs))
    assert ours.endswith("# EOF\n")
    assert ours.count("trace_id=") == theirs.count("trace_id=") == 1


NUMBERS = st.floats() | st.integers(-(2**53), 2**53)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(TEXTS, TEXTS, NUMBERS, st.booleans())
def test_whatever_a_label_and_a_value_are_they_are_read_back(label: str, help: str, value: float, traced: bool) -> None:
    metric = Metric("things", help, "counter")
    exemplar = Exemplar({"trace_id": "a"}, 1.5, 1_700_000_000.25) if traced else None
    metric.add_sample("things_total", {"b": label, "a": "x"}, value, None, exemplar)
    for kind, read in ((ExpositionFormat.TEXT, read_text), (ExpositionFormat.OPENMETRICS, read_openmetrics)):
        if kind is ExpositionFormat.OPENMETRICS and not value >= 0:
            continue  # no counter: that reader refuses it
        text = asyncio.run(write_text([metric], kind)).decode()
        [family] = read(text)
        [sample] = family.samples
        assert (sample.labels, repr(sample.value)) == ({"a": "x", "b": label}, repr(float(value)))
        assert (sample.exemplar is not None) == (traced and kind is ExpositionFormat.OPENMETRICS)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", ExpositionFormat.TEXT),
        ("*/*", ExpositionFormat.TEXT),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", ExpositionFormat.TEXT),
        (PROMETHEUS_2, ExpositionFormat.OPENMETRICS),
        (PROMETHEUS_3, ExpositionFormat.OPENMETRICS),
        ("application/openmetrics-text", ExpositionFormat.OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", ExpositionFormat.TEXT),
        ("application/openmetrics-text; version=abc", ExpositionFormat.TEXT),
        (f"application/openmetrics-text; version={'9' * 5_000}", ExpositionFormat.OPENMETRICS),
    ],
)
def test_a_scraper_gets_what_it_accepts(accept: str, format: ExpositionFormat) -> None:
    assert ExpositionFormat.accepted(accept) is format


@given(st.text(max_size=60) | st.lists(st.sampled_from(list("application/openmetrics-text;,=version1.0")), max_size=40))
def test_whatever_a_scraper_accepts_it_gets_a_format(accept: str | list[str]) -> None:
    assert ExpositionFormat.accepted("".join(accept)) in ExpositionFormat


@pytest.mark.parametrize("format", list(ExpositionFormat))
async def test_between_two_turns_of_the_loop_little_is_read_and_written(format: ExpositionFormat) -> None:
    largest = max(len(metric.samples) for metric in counted())
    turns, samples_in_turn = 0, [0]
    done = asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1
            samples_in_turn.append(0)

    def collected() -> Iterator[Metric]:
        for metric in counted():
            samples_in_turn[-1] += len(metric.samples)
            yield metric

    counting = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    await write_text(collected(), format)
    done.set()
    await counting
    assert max(samples_in_turn) < SAMPLES_AT_A_TIME + largest
    assert largest < 160
