"""Draws the figure of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.million.results import PAGE, Results
from benchmarks.million.scenes import Day, Return
from streamer.loadtest.plots import DEEP, FAINT, INK, MID, PALE, STYLE, WARM

FIGURE = PAGE.with_suffix(".png")
NEVER_S = 400.0


def draw(results: Results, path: Path = FIGURE) -> None:
    """Draw the four panels."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 7.6), layout="constrained")
        panels = figure.subplots(2, 2)
        _losses(panels[0][0], results.losses)
        _storms(panels[0][1], results.storms)
        _day(panels[1][0], next(each for each in results.days if (each.target, each.start_s) == (0.7, 180.0)))
        _refusals(panels[1][1], results.days)
        figure.savefig(path, dpi=110)


def _losses(axis: Any, losses: Sequence[Return]) -> None:
    for each in losses:
        if each.name != "a region" or not each.spread_s:
            continue
        colour = {0.05: WARM, 0.25: PALE, 0.5: DEEP}[each.headroom]
        times, shares = zip(*each.curve, strict=True)
        axis.plot(times, [100 * share for share in shares], color=colour, label=f"{each.headroom:.0%} headroom")
    axis.set(title="A region of three is lost", xlabel="seconds since", ylabel="% of its streams are back")
    axis.set_xlim(0, 120)
    axis.set_ylim(0, 103)
    axis.legend(loc="lower right")


def _storms(axis: Any, storms: Sequence[Return]) -> None:
    ways = (
        (0.0, None, "at once", WARM, "o-"),
        (30.0, None, "spread over 30 s", PALE, "s-"),
        (0.0, 3.0, "at once, queues of 3 s", MID, "^-"),
        (30.0, 3.0, "both", DEEP, "d-"),
    )
    for spread, queue, label, colour, style in ways:
        chosen = [each for each in storms if (each.spread_s, each.queue_s) == (spread, queue)]
        seconds = [NEVER_S if each.most_s is None else each.most_s for each in chosen]
        axis.plot([each.handshake_ms for each in chosen], seconds, style, color=colour, label=label, markersize=5)
    axis.axhline(NEVER_S, color=FAINT, linewidth=0.8, linestyle=":")
    axis.text(1.7, NEVER_S * 0.93, "never", color=FAINT, va="top")
    axis.set(title="Everybody is cut at once", xlabel="CPU of a handshake in ms", ylabel="seconds until 99 % are back")
    axis.set_xscale("log")
    axis.set_yscale("log")
    costs = sorted({each.handshake_ms for each in storms})
    axis.set_xticks(costs, [f"{cost:g}" for cost in costs])
    axis.set_xticks([], minor=True)
    axis.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axis.set_yticks([], minor=True)
    axis.legend(loc="center right", bbox_to_anchor=(1.0, 0.3))


def _day(axis: Any, day: Day) -> None:
    hours = [at / 3600 for at in day.times]
    axis.plot(hours, [each / 1e6 for each in day.demand], color=INK, label="streams")
    axis.plot(hours, [each / 1e6 for each in day.capacity], color=MID, label="slots")
    axis.set(title="A day, scaled to a load of 0.7", xlabel="hour", ylabel="millions")
    axis.set_xlim(0, 24)
    axis.set_ylim(0)
    axis.set_xticks(range(0, 25, 4))
    axis.legend(loc="upper left")


def _refusals(axis: Any, days: Sequence[Day]) -> None:
    for target, colour in ((0.6, DEEP), (0.7, MID), (0.85, WARM)):
        chosen = [each for each in days if each.target == target]
        axis.plot(
            [each.start_s for each in chosen],
            [max(each.refused, 1e-6) * 100 for each in chosen],
            "o-",
            color=colour,
            label=f"target load {target:g}, {chosen[0].process_hours:.0%} of the processes",
        )
    axis.set(
        title="Refusals in that day",
        xlabel="seconds until a new process takes streams",
        ylabel="refusals in % of streams",
    )
    axis.set_yscale("log")
    axis.legend(loc="upper left")
