"""A run that goes on is told on one line, of a terminal of the usual width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamer.cli.bench_view import RunProgressView
from streamer.loadtest.generator import GeneratorProgress
from streamer.loadtest.run import StepProgress


@pytest.mark.parametrize("width", [80, 120])
def test_a_large_run_s_progress_is_not_cut_off(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    with RunProgressView(console) as watch:
        watch.on_step_start(4_000)
        watch.on_progress(
            StepProgress(4_000, 12.4, 25.0, GeneratorProgress(live=4_000, results=12_345, late_s=0.012), cores=1.87)
        )
    assert "4000 streams ━" in out.getvalue()
    assert "12/25 s, 12345 results, 1.87 cores, load 12 ms late" in out.getvalue()


def test_streams_that_have_ended_are_told() -> None:
    out = io.StringIO()
    with RunProgressView(
        Console(file=out, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    ) as watch:
        watch.on_step_start(40)
        watch.on_progress(StepProgress(40, 1.0, 5.0, GeneratorProgress(live=38, results=7, late_s=0.0), cores=None))
    assert "1/5 s, 7 results, load 0 ms late, 38 live" in out.getvalue()
