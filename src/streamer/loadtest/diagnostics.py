"""Diagnostics of a run: reasons to distrust its figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.loadtest.results import LATE_MS, CapacityResult, LoadReport, LoadStep

_NOISY_CORES = 0.3
_STARVED = 0.25
_FEW = 100
"""Number of values below which a 99th percentile is one of the last few."""


def diagnose(report: LoadReport) -> list[str]:
    """Return one remark per kind of problem, with the affected steps; empty if there is no problem."""
    found: dict[str, list[str]] = {}
    for step in report.steps:
        for trouble, figure in _of(step):
            found.setdefault(trouble, []).append(f"{figure} at {step.streams} streams")
    # A search tries a number twice: identical figures are mentioned once.
    return [f"{trouble}: {', '.join(dict.fromkeys(figures))}" for trouble, figures in found.items()]


def headline_step(report: LoadReport) -> LoadStep:
    """Return the step for the headline: the largest that met the goal of a search, or the largest valid one."""
    if report.capacity is not None:
        good = [step for step in last_per_count(report.steps) if step.streams <= report.capacity.most]
    else:
        good = [step for step in report.steps if step.is_clean and not step.load.was_late]
    return max(good or report.steps, key=lambda step: step.streams)


def last_per_count(steps: Sequence[LoadStep]) -> list[LoadStep]:
    """Return the last step for each number of streams: a search may try twice."""
    return list({step.streams: step for step in steps}.values())


def search_end_text(capacity: CapacityResult) -> str:
    """Return why a search ended."""
    if capacity.too_many is None:
        return f"higher numbers were not tried: {capacity.why}"
    return f"{capacity.too_many} streams do not: {capacity.why}"


def goal_text(text: str) -> str:
    """Return `p99_final_ms=250` in words."""
    name, _, limit_ms = text.partition("=")
    share, _, measure = name.removesuffix("_ms").partition("_")
    latency = {"first": "time to the first result", "lag": "result lag", "final_whole": "whole latency"}
    shares = {"p50": "in the median", "max": "at most"}
    words = latency.get(measure, f"{measure} latency")
    return f"a {words} of {format_duration(float(limit_ms))} {shares.get(share, f'at {share[1:]} %')}"


def format_duration(ms: float) -> str:
    """Format a duration with its unit: 8.5 ms, 250 ms, 14.5 s."""
    if ms >= 10_000:
        return f"{ms / 1e3:.1f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def _of(step: LoadStep) -> Iterator[tuple[str, str]]:
    """Yield (problem, figure)."""
    frames = step.frames
    if step.opened < step.streams:
        yield "streams were refused", f"{step.streams - step.opened} ({_count_text(step.refused)})"
    if frames.lost or frames.doubled:
        yield "frames were lost, or answered twice", f"{frames.lost} and {frames.doubled}"
    if frames.miscounted_results:
        yield "results whose sample count differs from their range", f"{frames.miscounted_results}"
    if frames.unfinished_streams:
        yield "streams did not finish", f"{frames.unfinished_streams} ({_count_text(step.endings)})"
    if step.errors:
        yield "errors", _count_text(step.errors)
    if step.load.was_late:
        trouble = (
            f"the load generator was late (over 1 % of its messages by more than {LATE_MS:.0f} ms), so the load was "
            "lower than stated; use more --processes, or another machine"
        )
        yield trouble, f"by {format_duration(step.load.late.p99_ms)}"
    if step.early:
        trouble = (
            "finals arrived earlier than --redemption-ms allows; the server probably uses a different redemption time"
        )
        yield trouble, f"{step.early}"
    if step.cut:
        yield "utterances reached the maximum length; their finals are not part of the final latency", f"{step.cut}"
    if step.lag.count < _FEW:
        yield "too few results for a 99th percentile; use more --seconds", f"{step.lag.count}"
    if step.server is not None and step.server.waiting > _STARVED:
        yield (
            "threads of the server waited for a free core, so latencies are higher than the server needs",
            f"{step.server.waiting:.1f}",
        )
    if step.others_cores is not None and step.others_cores > _NOISY_CORES:
        yield "other processes used cores of this machine, so latencies are noisy", f"{step.others_cores:.1f}"


def _count_text(counts: object) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{count} x {word}" for word, count in sorted(counts.items(), key=lambda item: -item[1]))
