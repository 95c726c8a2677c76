"""An evaluation as one self-contained HTML page: the figures, then every file with its errors marked."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from streamer.evaluation.accuracy import Difference
from streamer.evaluation.report import Latency, Report

_STYLE = """
:root { --ink: #1f2933; --faint: #6b7783; --line: #e4e7eb; --deep: #0b5d4b }
body { margin: 0; background: #f6f8f8; color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 60px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 17px; margin: 32px 0 10px } p { color: var(--faint); margin: 4px 0 }
.cards { margin-top: 22px; display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px }
.card, .box { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px }
.card b { display: block; font-size: 22px; color: var(--deep); white-space: nowrap } .card span { color: var(--faint) }
.box { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13.5px }
th { color: var(--faint); font-weight: 500 } th, td { padding: 6px 8px; border-bottom: 1px solid var(--line) }
th, td { text-align: right; vertical-align: top; white-space: nowrap } tr:last-child td { border-bottom: 0 }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left }
td:last-child { white-space: normal; min-width: 320px }
del { color: #9c3f12; background: #fdeee6 } ins { color: #0b5d4b; background: #e2f4ee; text-decoration: none }
"""


def page(report: Report) -> str:
    """Return the whole page."""
    return "\n".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{escape(_title(report))}</title><style>{_STYLE}</style><main>",
            f"<h1>{escape(_title(report))}</h1>",
            f"<p>{len(report.files)} recordings, {report.seconds:.1f} s, {report.words.total} words; "
            f"normaliser: {escape(report.normaliser)}</p>",
            *_cards(report),
            "<h2>Files, those with the most errors first</h2><div class=box><table>",
            "<tr><th>file<th>seconds<th>words<th>errors<th>WER<th>CER<th>first interim<th>final"
            "<th><del>reference</del> and <ins>hypothesis</ins>",
            *_rows(report),
            "</table></div>",
            *_failed(report),
            "</main></html>\n",
        )
    )


def _title(report: Report) -> str:
    return f"{report.model}: {100 * report.word_error_rate:.1f} % of words wrong"


def _cards(report: Report) -> Iterator[str]:
    yield "<div class=cards>"
    yield from (
        f"<div class=card><b>{value}</b><span>{name}</span></div>"
        for name, value in (
            ("word error rate", f"{100 * report.word_error_rate:.2f} %"),
            ("character error rate", f"{100 * report.character_error_rate:.2f} %"),
            (f"real-time factor, {report.jobs} at a time", f"{report.real_time_factor:.3f}"),
            ("CPU seconds for a second", f"{report.cpu_factor:.3f}"),
            (f"first interim, p50 / p95, {report.streams} at a time", _both(report.first_interim)),
            (f"final, p50 / p95, {report.streams} at a time", _both(report.final)),
        )
    )
    yield "</div>"


def _both(latency: Latency) -> str:
    return f"{latency.p50_ms:.0f} / {latency.p95_ms:.0f} ms" if latency.count else "-"


def _rows(report: Report) -> Iterator[str]:
    for file in sorted(report.files, key=lambda file: -file.accuracy.words.errors):
        words, characters = file.accuracy.words, file.accuracy.characters
        yield (
            f"<tr><td>{escape(file.path)}<td>{file.seconds:.1f}<td>{words.total}<td>{words.errors}"
            f"<td>{100 * words.rate:.1f} %<td>{100 * characters.rate:.1f} %<td>{_worst(file.first_s)}"
            f"<td>{_worst(file.final_s)}<td>{' '.join(_marked(part) for part in file.accuracy.differences)}"
        )


def _worst(seconds: list[float]) -> str:
    return f"{1000 * max(seconds):.0f} ms" if seconds else "-"


def _marked(part: Difference) -> str:
    if part.change == "equal":
        return escape(part.reference)
    removed = f"<del>{escape(part.reference)}</del>" if part.reference else ""
    added = f"<ins>{escape(part.hypothesis)}</ins>" if part.hypothesis else ""
    return f"{removed} {added}".strip()


def _failed(report: Report) -> Iterator[str]:
    if report.failed:
        yield "<h2>Not transcribed</h2><div class=box><table>"
        yield from (f"<tr><td>{escape(path)}<td>{escape(why)}" for path, why in report.failed.items())
        yield "</table></div>"
