"""`streamer top`: what it makes of two scrapes, and of servers that are none."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import isnan
from threading import Thread

import pytest
from prometheus_client.exposition import generate_latest
from rich.console import Console

from streamer.access import new_key
from streamer.cli.top_view import screen
from streamer.errors import ErrorCode
from streamer.telemetry.metrics import PipelineStage
from streamer.telemetry.scrape import Quantiles, Scrape, ScrapeDelta
from streamer.telemetry.telemetry import Telemetry
from tests.cli.serving import environment, served


def scrape(telemetry: Telemetry, at: float) -> Scrape:
    return Scrape.parse(generate_latest(telemetry.registry).decode(), at)


def test_figures_are_of_the_time_between_two_looks() -> None:
    telemetry = Telemetry("stub")
    telemetry.on_batch_scored(10.0, 9.0)
    telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    before = scrape(telemetry, 100.0)
    telemetry.on_batch_scored(10.0, 1.0)
    for _ in range(4):
        telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    seen = ScrapeDelta(before, scrape(telemetry, 102.0)).overview()
    assert seen.rtf[PipelineStage.VAD_PROCESSING] == pytest.approx(0.1)
    assert isnan(seen.rtf[PipelineStage.MODEL_INFERENCE])
    assert seen.refusals == 2.0
    assert (seen.model, seen.ready) == ("stub", False)


def test_quantiles_lie_within_their_bucket() -> None:
    telemetry = Telemetry("stub")
    before = scrape(telemetry, 0.0)
    histogram = telemetry._metrics.final_latency.child()
    for _ in range(10):
        histogram.observe(0.15)
    assert ScrapeDelta(before, scrape(telemetry, 1.0)).quantiles("final_latency_seconds") == Quantiles(
        10, pytest.approx(0.15), pytest.approx(0.195), pytest.approx(0.199)
    )  # fmt: skip
    histogram.observe(1e9)
    assert ScrapeDelta(before, scrape(telemetry, 1.0)).quantiles("final_latency_seconds").p99 == 60.0


def test_a_server_that_began_anew_has_no_negative_rates() -> None:
    telemetry = Telemetry("stub")
    telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    telemetry.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    before = scrape(telemetry, 0.0)
    again = Telemetry("stub")
    again.on_refused("websocket", ErrorCode.OVERLOADED, "somebody")
    assert ScrapeDelta(before, scrape(again, 1.0)).overview().refusals == 1.0


def test_one_screen_fits_80_columns_and_30_lines() -> None:
    telemetry = Telemetry("stub")
    before = scrape(telemetry, 0.0)
    telemetry.on_batch_scored(1.0, 2.0)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(screen("http://localhost:8080", ScrapeDelta(before, scrape(telemetry, 1.0)).overview()))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 30
    assert any("rtf vad processing" in line and "2.000" in line for line in lines)


def test_once_shows_a_server_that_runs() -> None:
    with served() as server:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "top", server.url, "--once", "--interval", "0.2"],
            env=environment(), capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    assert "ready" in done.stdout
    assert "websocket segmented" in done.stdout


def test_a_server_whose_metrics_are_not_for_strangers_says_what_to_do_and_takes_a_key() -> None:
    secret, kept = new_key("tests")
    with served("--host", "0.0.0.0", "--grpc-port", "0", "--set", f"access.keys={kept}") as server:
        command = [sys.executable, "-m", "streamer", "top", server.url, "--once", "--interval", "0.2"]
        stranger = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)
        holder = subprocess.run(
            command, env=environment(STREAMER_TOKEN=secret), capture_output=True, text=True, timeout=30, check=False
        )
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert "server.metrics_address" in stranger.stderr
    assert stranger.stderr.count("\n") == 1
    assert (holder.returncode, "websocket segmented" in holder.stdout) == (0, True)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("http://127.0.0.1:9", 1, "Connection refused"),
        ("ws://127.0.0.1:9", 2, "expected http://HOST:PORT"),
    ],
)
def test_no_server_is_one_line(url: str, code: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "top", url, "--once"],
        env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_without_metrics_is_one_line() -> None:
    with answering(b"<html>hello") as url:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "top", url, "--once"],
            env=environment(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "expected metrics in the Prometheus text format" in done.stderr
