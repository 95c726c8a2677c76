"""The metrics of a server with several models: what belongs to a model has the label `model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import Metric

from streamer.telemetry.metrics import Metrics

LABEL = "model"


class MetricsByModel:
    """A collector over the metrics of the server and those of each model, in the shape of `Instruments`."""

    def __init__(self, server: Metrics, models: Mapping[str, Metrics]) -> None:
        self._server = server
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """Yield each family once, with the series of all models."""
        server = self._server
        instruments = [server.instruments, *(metrics.instruments for metrics in self._models.values())]
        for refresh in [refresh for each in instruments for refresh in each.refresh]:
            refresh()
        for name, family in server.instruments.families.items():
            metric = Metric(family.name, family.help, family.kind)
            if name in server.of_server or name in server.of_both:
                metric.samples.extend(family.metric().samples)
            if name not in server.of_server:
                for model, metrics in self._models.items():
                    for sample in metrics.instruments.families[name].metric().samples:
                        metric.samples.append(sample._replace(labels={**sample.labels, LABEL: model}))
            yield metric
