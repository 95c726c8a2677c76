"""Runs the fault table and prints what each test saw: `python -m tests.faults [options of pytest]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults.sight import PROPERTY, ObservedFault, from_property

Rows = dict[int, dict[str, list[ObservedFault]]]


class Watcher:
    """A plugin of pytest: keeps what each test has seen of its fault."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    row, seen = from_property(value)
                    test = report.nodeid.rpartition("::")[2].partition("[")[0]
                    self.rows.setdefault(row, {}).setdefault(test, []).append(seen)


def table(rows: Rows) -> Table:
    made = Table("row", "test", "runs", title="What was seen of each fault", show_lines=True)
    for name in ("told → closed", "counted", "logged"):
        made.add_column(name, overflow="fold")
    for row, tests in sorted(rows.items()):
        for test, seen in sorted(tests.items()):
            made.add_row(str(row), test, str(len(seen)), *_once(seen))
    return made


def _once(seen: list[ObservedFault]) -> Iterator[str]:
    """What all runs of a test saw, each once."""
    yield "\n".join(dict.fromkeys(f"{_list(one.told)} → {_list(one.ends)}" for one in seen))
    yield "\n".join(dict.fromkeys(line for one in seen for line in _counts(one.counted)))
    yield "\n".join(dict.fromkeys(line for one in seen for line in dict.fromkeys(one.logged)))


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(words)) or "-"


def _counts(counted: Mapping[str, int]) -> list[str]:
    return [f"{name} +{times}" for name, times in sorted(counted.items())]


def main() -> int:
    watcher = Watcher()
    code = pytest.main(["-q", str(Path(__file__).parent), *sys.argv[1:]], plugins=[watcher])
    wide = Console(width=max(240, Console().width))
    wide.print(table(watcher.rows))
    missing = sorted({*range(1, 33)} - watcher.rows.keys())
    wide.print(f"rows seen: {len(watcher.rows)} of 32{f', missing: {missing}' if missing else ''}")
    wide.print(f"failed: {', '.join(watcher.failed) or 'none'}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
