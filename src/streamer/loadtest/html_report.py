"""The report as one self-contained HTML page: results, plots, and the method of measurement."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from html import escape

from streamer.loadtest import plots
from streamer.loadtest.diagnostics import diagnose, format_duration, goal_text, headline_step, search_end_text
from streamer.loadtest.results import Distribution, LoadReport, LoadStep

_STYLE = """
:root { color-scheme: only light; --ink: #1f2933; --faint: #6b7783; --line: #e4e7eb; --deep: #0b5d4b; --warn: #9c3f12; }
* { box-sizing: border-box }
body { margin: 0; background: #f6f8f8; color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 60px }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px }
h2 { font-size: 17px; margin: 34px 0 10px }
.sub { color: var(--faint); margin: 0 }
.missed td { color: var(--warn) }
.cards { margin-top: 22px; display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, auto)); gap: 14px }
.card, figure, .box { background: #fff; border: 1px solid var(--line); border-radius: 10px; margin: 0 }
.card, figure, .box { padding: 14px 16px }
.card b { display: block; font-size: 25px; line-height: 1.3; color: var(--deep); white-space: nowrap }
.card span { color: var(--faint); font-size: 13px }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; margin-top: 14px }
@media (max-width: 800px) { .pair { grid-template-columns: 1fr } }
.wide { margin-top: 14px }
img { width: 100%; display: block }
@media (max-width: 800px) { .wide figure { overflow-x: auto } .wide img { width: 860px } }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13.5px }
th { text-align: right; color: var(--faint); font-weight: 500; vertical-align: bottom }
th, td { padding: 5px 6px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
tr:last-child td { border-bottom: 0 }
.scroll { overflow-x: auto }
.warn { border-left: 4px solid var(--warn); margin-top: 14px }
.warn ul { margin: 4px 0; padding-left: 20px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; font-size: 14px }
dt { color: var(--faint) } dd { margin: 0 } code { font-size: 13px; overflow-wrap: anywhere }
"""


def render_page(report: LoadReport) -> str:
    """Return the whole page."""
    return "\n".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{escape(_title(report))}</title><style>{_STYLE}</style><main>",
            f"<h1>{escape(_title(report))}</h1>",
            *_below_title(report),
            *_cards(report),
            *_warnings(report),
            *_pictures(report),
            "<h2>Every step</h2><div class='box scroll'>",
            *_table(report),
            "</div>",
            *_method(report),
            "</main>",
        )
    )


def _title(report: LoadReport) -> str:
    if report.capacity is not None:
        return f"{report.capacity.most} streams within {goal_text(report.capacity.goal)}"
    step = headline_step(report)
    name, latency = plots.headline(step)
    if not latency.count:
        return f"{step.streams} streams: no results"
    median, p99 = format_duration(latency.p50_ms), format_duration(latency.p99_ms)
    return f"{step.streams} streams: {name} {median} in the median, {p99} at 99 %"


def _below_title(report: LoadReport) -> Iterator[str]:
    """Return the end of a search; server, machine and time."""
    if report.capacity is not None:
        yield f"<p class=sub>{escape(search_end_text(report.capacity))}</p>"
    started_at = report.started_at.replace("T", " ").replace("+00:00", " UTC")
    cores = f"{report.machine.cores} cores, shared with the load generator · " if headline_step(report).server else ""
    yield f"<p class=sub>{escape(report.server)} · {cores}{escape(started_at)}</p>"


def _cards(report: LoadReport) -> Iterator[str]:
    """Return the main figures of the step in the title."""
    step = headline_step(report)
    name, latency = plots.headline(step)
    frames = step.frames
    yield "<div class=cards>"
    yield _card(f"{step.streams}", f"streams for {step.seconds:g} s, {100 * report.workload.duty:.0f} % of it speech")
    yield _card(format_duration(latency.p50_ms), f"{name}, median")
    yield _card(format_duration(latency.p99_ms), f"{name}, 99 %")
    if step.server is not None:
        use = step.server
        yield _card(f"{use.cpu_ms_per_stream_s:.2f} ms", f"CPU per second of one stream; {use.cores:.2f} cores in all")
        peak = f"{use.rss_peak / 2**20:.0f} MiB"
        yield _card(f"{max(0, use.rss_per_stream) / 1024:.0f} KiB", f"memory per stream; {peak} in all at the peak")
    yield _card(f"{frames.lost + frames.doubled}", f"frames lost or answered twice of {frames.sent / 1e6:.1f} million")
    yield "</div>"


def _card(figure: str, words: str) -> str:
    return f"<div class=card><b>{escape(figure)}</b><span>{escape(words)}</span></div>"


def _warnings(report: LoadReport) -> Iterator[str]:
    found = diagnose(report)
    if found:
        yield "<div class='box warn'>Read this before the figures:<ul>"
        yield from (f"<li>{escape(remark)}</li>" for remark in found)
        yield "</ul></div>"


def _pictures(report: LoadReport) -> Iterator[str]:
    has_lag = any(step.lag.count for step in report.steps)
    if has_lag and len({step.streams for step in report.steps}) > 1:
        yield "<div class=pair>"
        yield _picture(plots.latency_against_streams(report), "latency percentiles against streams")
        if any(step.server for step in report.steps):
            yield _picture(plots.cpu_against_streams(report), "CPU against streams")
        yield "</div>"
    if has_lag:
        yield "<div class=wide>" + _picture(plots.timeline(report), "timeline of lag") + "</div>"
    yield "<div class=pair>"
    if has_lag:
        yield _picture(plots.distributions(report), "distribution of latency")
    yield from _workload(report)
    yield "</div>"


def _picture(png: bytes, words: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<figure><img alt='{escape(words)}' src='data:image/png;base64,{data}'></figure>"


def _workload(report: LoadReport) -> Iterator[str]:
    """Return everything that determines the load, and the machine."""
    workload, machine = report.workload, report.machine
    jitter = f"{workload.jitter_ms:g} ms" if workload.jitter_ms else "none"
    of_load = _numbers(step.load.processes for step in report.steps)
    of_server = _numbers(step.server.processes for step in report.steps if step.server)
    compiled = ", compiled" if report.compiled else ", not compiled"
    facts = [
        (
            "each stream",
            f"{workload.encoding}, {workload.sample_rate} Hz, {workload.chunk_ms:g} ms ({workload.chunk_bytes} bytes) "
            "a message",
        ),
        ("says", ", ".join(workload.recordings)),
        ("speech", f"{100 * workload.speech:.0f} % of the time (requested: {100 * workload.duty:.0f} %)"),
        ("jitter", f"{jitter}; random seed {workload.seed}"),
        ("interims", "requested" if workload.interim_results else "not requested"),
        ("endpointing", f"an utterance ends after {workload.redemption_ms:g} ms of silence"),
        (
            "time",
            f"begins over {workload.ramp_s:g} s, {workload.warmup_s:g} s of warm-up, {workload.seconds:g} s measured",
        ),
        ("load", f"open loop; processes of the generator: {of_load}"),
        ("server", f"processes: {of_server}" if of_server else "not measured"),
        ("machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}; shared with the load generator"),
        ("software", f"streamer {report.version}{compiled}, Python {machine.python}"),
    ]
    yield "<div class=box><dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in facts)
    yield "</dl></div>"


def _numbers(figures: Iterable[int]) -> str:
    """Format a figure of all steps: `2`, or `1 to 3` if they differ."""
    numbers = sorted(set(figures))
    return " to ".join(map(str, dict.fromkeys((*numbers[:1], *numbers[-1:]))))


_NONE = "-"
_COLUMNS: tuple[tuple[str, Callable[[LoadStep], str]], ...] = (
    ("streams", lambda step: str(step.streams)),
    ("first<br>result<br>ms", lambda step: _ms(step.first, "p50_ms")),
    ("final<br>median<br>ms", lambda step: _ms(step.final, "p50_ms")),
    ("final<br>90 %<br>ms", lambda step: _ms(step.final, "p90_ms")),
    ("final<br>99 %<br>ms", lambda step: _ms(step.final, "p99_ms")),
    ("with end-<br>pointing<br>ms", lambda step: _ms(step.final_whole, "p50_ms")),
    ("interim<br>99 %<br>ms", lambda step: _ms(step.interim, "p99_ms")),
    ("lag<br>99 %<br>ms", lambda step: _ms(step.lag, "p99_ms")),
    (
        "CPU ms per<br>stream-<br>second",
        lambda step: f"{step.server.cpu_ms_per_stream_s:.2f}" if step.server else _NONE,
    ),
    ("CPU<br>cores", lambda step: f"{step.server.cores:.2f}" if step.server else _NONE),
    ("peak<br>memory<br>MiB", lambda step: f"{step.server.rss_peak / 2**20:.0f}" if step.server else _NONE),
    (
        "memory<br>a stream<br>KiB",
        lambda step: f"{max(0, step.server.rss_per_stream) / 1024:.0f}" if step.server else _NONE,
    ),
    ("lost,<br>doubled<br>frames", lambda step: f"{step.frames.lost}, {step.frames.doubled}"),
    ("late<br>99 %<br>ms", lambda step: _ms(step.load.late, "p99_ms")),
    ("audio<br>median<br>ms", lambda step: _ms(step.audio, "p50_ms")),
    ("audio<br>99 %<br>ms", lambda step: _ms(step.audio, "p99_ms")),
    ("gaps<br>%", lambda step: f"{100 * step.gap_s / step.audio_out_s:.2f}" if step.audio_out_s else _NONE),
    ("others'<br>cores", lambda step: _NONE if step.others_cores is None else f"{step.others_cores:.1f}"),
)


def _table(report: LoadReport) -> Iterator[str]:
    """Return a row for each step, without empty columns."""
    steps = report.steps
    cells = [(heading, [cell(step) for step in steps]) for heading, cell in _COLUMNS]
    columns = [(heading, values) for heading, values in cells if set(values) != {_NONE}]
    yield "<table><tr>" + "".join(f"<th>{heading}</th>" for heading, _ in columns) + "</tr>"
    for row, step in enumerate(steps):
        is_over = report.capacity is not None and step.streams > report.capacity.most
        kind = " class=missed" if is_over else ""
        yield f"<tr{kind}>" + "".join(f"<td>{escape(values[row])}</td>" for _, values in columns) + "</tr>"
    yield "</table>"
    if report.capacity is not None:
        yield f"<p class=sub>Numbers above {report.capacity.most}, in red, missed the goal, each of them twice.</p>"


_TERMS = (
    (
        "first result",
        "median, from a stream's first message to its first result: mostly the time until speech begins",
    ),
    (
        "final latency",
        "from the sending of the audio that decided an utterance's end (the silence after it, and the window that"
        " completed it) to the arrival of its final: what the server adds",
    ),
    (
        "with endpointing",
        "median, from the sending of the last voiced audio to the final: the delay that a speaker notices",
    ),
    ("interim", "from the last audio that an interim covers to its arrival"),
    ("lag", "the same over all results: finals without endpointing, interims, pieces"),
    ("audio", "from the sending of audio to the arrival of the audio out in its place"),
    ("gaps", "silence that a listener with a jitter buffer of 40 ms hears, as a share of the audio out"),
    ("late", "how long after its scheduled time a message left; latencies count from when it did leave"),
    ("CPU", "user and system time of the server's process and its children, read from outside"),
    (
        "memory",
        "resident size at the end of a step minus that before the first connection, per stream",
    ),
    ("others' cores", "CPU of this machine that neither the server nor the load generator used"),
)


def _method(report: LoadReport) -> Iterator[str]:
    yield "<h2>Terms</h2><div class=box><dl>"
    yield from (f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in _TERMS)
    yield f"<dt>repeat</dt><dd><code>{escape(report.command)}</code></dd></dl></div>"


def _ms(distribution: Distribution, name: str) -> str:
    """Format milliseconds without the unit, which is in the heading."""
    if not distribution.count:
        return _NONE
    ms: float = getattr(distribution, name)
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}"
