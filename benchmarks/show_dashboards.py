"""Every panel of the dashboards, asked of a real Prometheus that scraped a server under load, and plotted.

python -m benchmarks.show_dashboards PNG-FOLDER (needs Debian's package prometheus)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib

from benchmarks.bench_telemetry import served, stream
from streamer.telemetry.panels import DASHBOARDS, RATE, Dashboard, Panel

matplotlib.use("Agg")
from matplotlib import pyplot

PORT = 19_090
STEP_S = 2


@contextmanager
def prometheus(target: str) -> Iterator[str]:
    """A real one, that scrapes `target` (host:port) each two seconds."""
    with TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        job = {"job_name": "streamer", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": f"{STEP_S}s"}, "scrape_configs": [job]}))
        command = [
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", "--log.level=error"),
            *(f"--web.listen-address=127.0.0.1:{PORT}", "--enable-feature=exemplar-storage"),
        ]
        with subprocess.Popen(command) as process:
            try:
                yield f"http://127.0.0.1:{PORT}"
            finally:
                process.terminate()


def ask(url: str, path: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)["data"]


def lines(url: str, panel: Panel, began: float, ended: float) -> list[tuple[str, list[float], list[float]]]:
    """(legend, minutes, values) of each line of a panel."""
    found = []
    for query in panel.queries:
        expr = query.expr.replace(RATE, "20s")
        data = ask(url, "query_range", query=expr, start=str(began), end=str(ended), step=str(STEP_S))
        for series in data["result"]:
            legend = query.legend
            for label, value in series["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            points = [(float(at) - began, float(value)) for at, value in series["values"] if value != "NaN"]
            if points:
                found.append((legend, [at for at, _ in points], [value for _, value in points]))
    return found


def plot(
    dashboard: Dashboard, drawn: list[tuple[Panel, list[tuple[str, list[float], list[float]]]]], path: Path
) -> None:
    rows = -(-len(drawn) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(14, 2.6 * rows), squeeze=False, layout="constrained")
    for axis, (panel, found) in zip(axes.flat, drawn, strict=False):
        for legend, at, values in found:
            axis.plot(at, values, label=legend)
        axis.set_title(f"{panel.title} [{panel.unit}]", fontsize=10, loc="left")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if 0 < len(found) <= 8:
            axis.legend(fontsize=7)
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    figure.suptitle(dashboard.title)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=40)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    empty = []
    with served(False, None) as (_, url), prometheus(url.removeprefix("http://")) as source:
        time.sleep(3)
        began = time.time()
        for seconds in (asked.seconds / 2, asked.seconds / 2):  # two rounds, so that sessions end in sight
            stream(url, asked.streams, seconds, asked.folder / "bench", "--warmup", "1", "--interim-results")
        time.sleep(2 * STEP_S)
        ended = time.time()
        for dashboard in DASHBOARDS:
            drawn = [(panel, lines(source, panel, began, ended)) for panel in dashboard.panels]
            empty += [f"{dashboard.title}: {panel.title}" for panel, found in drawn if not found]
            plot(dashboard, drawn, asked.folder / f"{dashboard.uid}.png")
            print(f"{dashboard.title}: {sum(bool(found) for _, found in drawn)} of {len(drawn)} panels have data")
        for name in ("scrape_samples_scraped", "scrape_duration_seconds"):
            print(name, ask(source, "query", query=name)["result"][0]["value"][1])
    print("without data:", ", ".join(empty) or "none")


if __name__ == "__main__":
    main()
