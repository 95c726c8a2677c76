"""Metrics in the formats of scrapers: Prometheus text 0.0.4 and OpenMetrics 1.0.0, written in slices.

prometheus_client writes a whole registry at once, which blocks an event loop for 4 to 18 ms. Here it takes 2.5 ms in
slices of a quarter (docs/design/telemetry.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from enum import StrEnum
from math import inf, isnan

from prometheus_client import Metric
from prometheus_client.samples import Exemplar, Sample

SAMPLES_AT_A_TIME = 50
"""Samples written between two iterations of the loop. A family is not split, so a slice may be larger."""


class ExpositionFormat(StrEnum):
    """Formats by their content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @classmethod
    def accepted(cls, accept: str) -> ExpositionFormat:
        """Return the format for this `Accept`: OpenMetrics if the scraper accepts version 1 or names no version."""
        for offer in accept.split(","):
            media_type, *parameters = [part.strip() for part in offer.split(";")]
            versions = [value for name, _, value in (part.partition("=") for part in parameters) if name == "version"]
            if media_type == "application/openmetrics-text" and all(map(_is_version_1, versions)):
                return cls.OPENMETRICS
        return cls.TEXT


def _is_version_1(version: str) -> bool:
    """Return whether a version is 1.0.0 or later; later ones get 1.0.0."""
    major = version.partition(".")[0]
    return major.isdecimal() and bool(major.strip("0"))


async def in_slices(metrics: Iterable[Metric]) -> AsyncIterator[Metric]:
    """Yield metrics, which may be generated lazily, and let the event loop run in between."""
    samples = 0
    for metric in metrics:
        yield metric
        samples += len(metric.samples)
        if samples >= SAMPLES_AT_A_TIME:
            samples = 0
            await asyncio.sleep(0)


async def write_text(metrics: Iterable[Metric], format: ExpositionFormat) -> bytes:
    """Return the metrics as text, written in slices."""
    is_openmetrics = format is ExpositionFormat.OPENMETRICS
    pieces = [_family(metric, is_openmetrics=is_openmetrics) async for metric in in_slices(metrics)]
    if is_openmetrics:
        pieces.append("# EOF\n")
    return "".join(pieces).encode()


def _family(metric: Metric, *, is_openmetrics: bool) -> str:
    name, kind = metric.name, metric.type
    if not is_openmetrics:
        name = f"{name}_total" if kind == "counter" else name
        kind = "untyped" if kind == "unknown" else kind
    lines = [f"# HELP {name} {_escaped(metric.documentation, quotes=is_openmetrics)}", f"# TYPE {name} {kind}"]
    lines += _lines(metric.samples, with_exemplars=is_openmetrics)
    return "\n".join(lines) + "\n"


def _lines(samples: Iterable[Sample], *, with_exemplars: bool) -> Iterator[str]:
    for sample in samples:
        line = f"{sample.name}{_labels(sample.labels)} {_number(sample.value)}"
        yield line + _exemplar(sample.exemplar) if sample.exemplar and with_exemplars else line


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(labels[name], quotes=True)}"' for name in sorted(labels)]) + "}"


def _exemplar(exemplar: Exemplar) -> str:
    at = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {_labels(exemplar.labels) or '{}'} {_number(exemplar.value)}{at}"


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _number(value: float) -> str:
    value = float(value)
    if value - value == 0:
        return repr(value)
    if isnan(value):
        return "NaN"
    return "+Inf" if value == inf else "-Inf"
