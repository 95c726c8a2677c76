"""What a reader must be told about a run's figures before believing them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.bench.results import LATE_MS, Report, Step

_NOISY_CORES = 0.3
_FEW = 100
"""Values below which a 99th percentile is one of the last few."""


def remarks(report: Report) -> list[str]:
    """In order of the steps; empty where there is nothing to say."""
    return [f"{step.streams} streams: {remark}" for step in report.steps for remark in _of(step, report)]


def shown(report: Report) -> Step:
    """The step that a headline speaks of: the largest that held the goal of a search, or that can be believed."""
    if report.capacity is not None:
        good = [step for step in report.steps if step.streams <= report.capacity.most]
    else:
        good = [step for step in report.steps if step.clean and not step.load.was_late]
    return max(good or report.steps, key=lambda step: step.streams)


def duration(ms: float) -> str:
    """With its unit: 8.5 ms, 250 ms, 14.5 s."""
    if ms >= 10_000:
        return f"{ms / 1e3:.1f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def _of(step: Step, report: Report) -> Iterator[str]:
    frames, late = step.frames, step.load.late
    if step.opened < step.streams:
        yield f"{step.streams - step.opened} were refused ({_words(step.refused)})"
    if frames.lost or frames.doubled:
        yield f"{frames.lost} frames lost, {frames.doubled} answered twice"
    if frames.miscounted_results:
        yield f"{frames.miscounted_results} results counted other samples than their range has"
    if frames.unfinished_streams:
        yield f"{frames.unfinished_streams} streams did not end well ({_words(step.endings)})"
    if step.errors:
        yield f"errors: {_words(step.errors)}"
    if step.load.was_late:
        yield (
            f"the generator was late: 1 % of the messages left {late.p99_ms:.0f} ms or more after their time "
            f"(more than {LATE_MS:.0f}), so this load was not quite what it says; more --processes, or another machine"
        )
    if step.early:
        yield (
            f"{step.early} finals came before the silence that should have decided them: the server's redemption time "
            f"is not {report.workload.redemption_ms:.0f} ms (say --redemption-ms)"
        )
    if step.cut:
        yield f"{step.cut} finals were cut at the greatest length and are not in the final latency"
    if step.final.count + step.lag.count == 0:
        yield "no results in the measured time"
    elif 0 < step.lag.count < _FEW:
        yield f"only {step.lag.count} results: the 99th percentile is a guess; more --seconds"
    if step.others_cores is not None and step.others_cores > _NOISY_CORES:
        yield f"other processes took {step.others_cores:.1f} cores of this machine: latencies carry their noise"


def _words(counts: object) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{count} x {word}" for word, count in sorted(counts.items(), key=lambda item: -item[1]))
