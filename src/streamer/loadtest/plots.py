"""The plots of the report page, as PNG; matplotlib is the extra `streamer-audio[plot]`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from streamer.loadtest.diagnostics import format_duration, headline_step, last_per_count
from streamer.loadtest.results import Distribution, LoadReport, LoadStep

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
DEEP, MID, PALE, WARM = "#0b5d4b", "#0f8a6d", "#7cc5b1", "#d9632b"
HELD = LinearSegmentedColormap.from_list("held", ("#9ad6c5", MID, "#06382d"))
MISSED = LinearSegmentedColormap.from_list("missed", ("#f0b48f", WARM, "#7a2c0b"))
PANELS = 6
"""Maximum number of timelines side by side: the largest steps."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def headline(step: LoadStep) -> tuple[str, Distribution]:
    """Return the most significant latency of a step: of finals if there are utterances, otherwise of all results."""
    return ("final latency", step.final) if step.final.count else ("result lag", step.lag)


def latency_against_streams(report: LoadReport) -> bytes:
    """Plot percentiles of each step."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        steps = _measured(report.steps)
        name = headline(steps[-1])[0]
        at = [step.streams for step in steps]
        for key, label, color in (("max_ms", "greatest", "#c4ccd4"), ("p99_ms", "99 %", WARM), ("p90_ms", "90 %", PALE),
                                  ("p50_ms", "median", DEEP)):  # fmt: skip
            values = [getattr(headline(step)[1], key) for step in steps]
            axis.plot(at, values, color=color, marker="o", markersize=5, linewidth=1.8, label=label)
        last = headline(steps[-1])[1]
        for value in (last.p50_ms, last.p99_ms)[last.p99_ms < 1.4 * last.p50_ms :]:
            axis.annotate(format_duration(value), (at[-1], value), (7, -3), textcoords="offset points", fontsize=8.5)
        _logarithmic(axis, [value for step in steps for value in (headline(step)[1].p50_ms, headline(step)[1].max_ms)])
        if (limit := _limit_ms(report)) is not None:
            axis.axhline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axis.annotate(f"goal {limit:g} ms", (0.01, limit), (0, 4), xycoords=("axes fraction", "data"),
                          textcoords="offset points", fontsize=8.5)  # fmt: skip
        if report.capacity is not None and report.capacity.most in at:
            axis.axvline(report.capacity.most, ymax=0.86, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axis.annotate(f"{report.capacity.most} streams", (report.capacity.most, 0.02), (-4, 0), ha="right",
                          xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8.5)  # fmt: skip
        _streams(axis, at)
        axis.set_ylabel("ms")
        axis.set_title(f"{name.capitalize()} against streams")
        axis.legend(loc="upper left", ncols=4)

    return _png(draw, (6.4, 3.7))


def cpu_against_streams(report: LoadReport) -> bytes:
    """Plot the server's CPU per second of one stream, and its cores for all of them."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        uses = [(step.streams, step.server) for step in last_per_count(report.steps) if step.server is not None]
        at = [streams for streams, _ in uses]
        each = [use.cpu_ms_per_stream_s for _, use in uses]
        cores = [use.cores for _, use in uses]
        spoken_of = headline_step(report).streams
        # The number is where a falling and a rising line leave space.
        for axis, values, title, beside in (
            (left, each, "CPU ms per stream-second", {"xytext": (-5, -13), "ha": "right"}),
            (right, cores, "Cores in use", {"xytext": (5, -11), "ha": "left"}),
        ):
            axis.plot(at, values, color=DEEP, marker="o", markersize=5, linewidth=1.8)
            if spoken_of in at:
                value = values[at.index(spoken_of)]
                axis.annotate(f"{value:.2f}", (spoken_of, value), textcoords="offset points", fontsize=8.5, **beside)
            axis.set_ylim(0, max([*values, 0.1]) * 1.2)
            axis.set_title(title)
            _streams(axis, at)

    return _png(draw, (6.4, 3.7))


def distributions(report: LoadReport) -> bytes:
    """Plot the share of results within a latency, a curve for each step."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        steps = _measured(report.steps)
        name = headline(steps[-1])[0]
        for step, color in zip(steps, _colors(report, steps), strict=True):
            values = np.maximum(headline(step)[1].quantiles_ms, 0.1)
            axis.plot(values, np.arange(101), color=color, linewidth=1.8, label=f"{step.streams}")
        axis.set_xscale("log")
        ends = [headline(step)[1] for step in steps]
        wide = max(end.max_ms for end in ends) > 500 * max(0.1, min(end.quantiles_ms[0] for end in ends))
        _plainly(axis.xaxis, wide=wide)
        for share in (50, 99):
            axis.axhline(share, color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
        axis.set_yticks([0, 25, 50, 75, 99], ["0 %", "25 %", "50 %", "75 %", "99 %"])
        axis.set_xlabel("ms")
        axis.set_title(f"Results within a {name} of …")
        axis.legend(title="streams", loc="center left", bbox_to_anchor=(1.0, 0.5))

    return _png(draw, (6.4, 3.7))


def timeline(report: LoadReport) -> bytes:
    """Plot the lag of results over time, a panel for each of the largest steps."""

    def draw(figure: Figure) -> None:
        steps = _measured(report.steps)[-PANELS:]
        axes = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
        quiet = report.workload.ramp_s + report.workload.warmup_s
        values: list[float] = []
        for axis, step in zip(axes, steps, strict=True):
            moments = [moment for moment in step.timeline if moment.results]
            at = [moment.second + 0.5 for moment in moments]
            p50 = [moment.lag_p50_ms for moment in moments]
            p99 = [moment.lag_p99_ms for moment in moments]
            values += p50 + p99
            axis.axvspan(0, quiet, color=GRID, alpha=0.5, linewidth=0)
            axis.fill_between(at, p50, p99, color=PALE, alpha=0.35, linewidth=0, label="to 99 %")
            axis.plot(at, p50, color=DEEP, linewidth=1.8, label="median")
            axis.set_xlim(0, quiet + report.workload.seconds)
            axis.set_title(f"{step.streams} streams", fontsize=9.5)
            axis.set_xlabel("seconds")
            axis.xaxis.set_major_locator(MaxNLocator(4))
        _logarithmic(axes[0], values)
        axes[0].set_ylabel("lag, ms")
        axes[0].annotate("warm-up", (0, 1), (3, -3), xycoords="axes fraction", textcoords="offset points", va="top",
                         fontsize=8, color=FAINT)  # fmt: skip
        figure.suptitle("Lag of the results over time", x=0.01, ha="left", fontsize=11, fontweight="bold")
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper right", ncols=2)

    return _png(draw, (13.0, 3.3))


def _measured(steps: Sequence[LoadStep]) -> list[LoadStep]:
    return [step for step in last_per_count(steps) if step.lag.count]


def _limit_ms(report: LoadReport) -> float | None:
    """Return the goal's limit, if it concerns the plotted latency."""
    if report.capacity is None or "_final_ms=" not in report.capacity.goal:
        return None
    return float(report.capacity.goal.partition("=")[2])


def _streams(axis: Any, at: Sequence[int]) -> None:
    axis.set_xlim(0, max(at) * 1.16)
    crowded = min((high - low for low, high in pairwise(sorted(at))), default=max(at)) < max(at) / 12
    axis.set_xticks(MaxNLocator(6, integer=True).tick_values(0, max(at)) if crowded else sorted(at))
    axis.set_xlabel("streams")


def _logarithmic(axis: Any, values: Sequence[float]) -> None:
    """Set a logarithmic scale if the values need one, with plain numbers."""
    low, high = max(0.1, min(values, default=1.0)), max(values, default=1.0)
    if high / low > 8:
        axis.set_yscale("log")
        _plainly(axis.yaxis, wide=high / low > 500)
        axis.set_ylim(low / 1.6, high * 3)
    else:
        axis.set_ylim(0, high * 1.35)


def _plainly(axis: Any, *, wide: bool) -> None:
    """Label a logarithmic axis with plain numbers: at 1, 2, 5, 10, ..., or over many decades at their ends."""
    axis.set_major_locator(LogLocator(base=10, subs=(1,) if wide else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _at: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _colors(report: LoadReport, steps: Sequence[LoadStep]) -> list[Any]:
    """Return darker colours for more streams; in a search, another colour for steps that missed the goal."""
    most = steps[-1].streams if report.capacity is None else report.capacity.most
    within = sum(step.streams <= most for step in steps)
    # From the dark end: a single step is the darkest.
    return [*HELD(np.linspace(1, 0, within)[::-1]), *MISSED(np.linspace(1, 0, len(steps) - within)[::-1])]


def _png(draw: Callable[[Figure], None], size: tuple[float, float]) -> bytes:
    with rc_context(STYLE):
        figure = Figure(figsize=size, dpi=170, layout="constrained")
        draw(figure)
        data = io.BytesIO()
        figure.savefig(data, format="png")
    return data.getvalue()
