"""The results of a run, as JSON, and the tables of the page that are made of them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from benchmarks.million.plan import Plan, rows
from benchmarks.million.scenes import COSTS_MS, Day, Return, days, losses, storms

ROOT = Path(__file__).parent.parent.parent
RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs/design/a-million-streams.md"
QUANTUM, DAY_QUANTUM = 1_000, 2_000
"""Streams in a cohort."""


class Results(msgspec.Struct, frozen=True):
    """All scenes of one plan."""

    plan: Plan
    losses: list[Return]
    storms: list[Return]
    days: list[Day]


def run(plan: Plan, *, quantum: int = QUANTUM, day_quantum: int = DAY_QUANTUM) -> Results:
    """Run all scenes, in a minute or two."""
    return Results(
        plan,
        losses(plan, quantum=quantum),
        storms(plan, COSTS_MS, quantum=quantum),
        days(plan, quantum=day_quantum),
    )


def load() -> Results:
    return msgspec.json.decode(RESULTS.read_bytes(), type=Results)


def save(results: Results) -> None:
    RESULTS.write_bytes(msgspec.json.encode(results) + b"\n")


def tables(results: Results) -> dict[str, str]:
    """Return each table of the page by its name."""
    return {
        "arithmetic": _table(("quantity", "value", "because"), rows(results.plan)),
        "losses": _table(
            (
                "lost",
                "headroom",
                "clients come back",
                "half are back",
                "99 % are back",
                "streams after 5 min",
                "attempts",
            ),
            [
                (
                    each.name,
                    f"{each.headroom:.0%}",
                    _spread(each),
                    _seconds(each.half_s),
                    _seconds(each.most_s),
                    f"{min(1.0, each.served):.0%}",
                    f"{each.attempts:.1f}",
                )
                for each in results.losses
            ],
        ),
        "storms": _table(
            (
                "CPU of a handshake",
                "clients come back",
                "queue of handshakes",
                "99 % are back",
                "attempts",
                "work for nobody",
            ),
            [
                (
                    f"{each.handshake_ms:g} ms",
                    _spread(each),
                    "not bounded" if each.queue_s is None else f"{each.queue_s:g} s",
                    _seconds(each.most_s),
                    f"{each.attempts:.1f}",
                    f"{each.wasted:.0%}",
                )
                for each in results.storms
            ],
        ),
        "days": _table(
            (
                "target load",
                "a process takes streams after",
                "processes paid for",
                "refusals for a stream",
                "asked to move",
            ),
            [
                (
                    f"{each.target:g}",
                    f"{each.start_s:g} s",
                    f"{each.process_hours:.0%}",
                    f"{each.refused:.3%}",
                    f"{each.reconnects:.1%}",
                )
                for each in results.days
            ],
        ),
    }


def written(page: str, results: Results) -> str:
    """Return the page with its tables as they should be."""
    for name, table in tables(results).items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        page, count = re.subn(f"{begin}.*?{end}", f"{begin}\n{table}\n{end}", page, flags=re.S)
        assert count == 1, f"the page has no place for {name}"
    return page


def _spread(each: Return) -> str:
    return f"spread over {each.spread_s:g} s" if each.spread_s else "at once"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *lines))
