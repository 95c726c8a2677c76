"""docs/promises.md names tests: each of them exists, and no row of the fault table is left out."""

from __future__ import annotations

import ast
import re
from dataclasses import fields

from streamer.config import Settings
from tests.architecture import ROOT
from tests.faults.test_limits import STARTS

PAGE = ROOT / "docs" / "promises.md"
NAMED = re.compile(r"`((?:tests|faults)/[\w/]+\.py)(?:::(\w+))?`")
FAULTS = ROOT / "tests" / "faults"
ROWS = 33
LIMIT = re.compile(r"^max_|_timeout_s$|^outbox_")
NO_BOUNDS = {
    "session.stall_timeout_s",  # ends an utterance, not a client
    "engine.max_restart_backoff_s",  # how patient we are with ourselves
}


def test_every_test_that_a_promise_names_exists() -> None:
    missing = []
    for path, name in NAMED.findall(PAGE.read_text()):
        file = ROOT / (path if path.startswith("tests/") else f"tests/{path}")
        if not file.is_file() or (name and name not in functions(file.read_text())):
            missing.append(f"{path}::{name}")
    assert not missing


def test_no_row_of_the_fault_table_is_left_out() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.M)]
    assert numbers == list(range(1, ROWS + 1))
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert all(NAMED.search(row) for row in rows)


def test_no_limit_of_the_settings_is_without_its_test() -> None:
    settings = Settings()
    sections = {name: getattr(settings, name) for name in ("server", "grpc", "access", "session", "limits", "engine")}
    limits = {
        f"{section}.{field.name}"
        for section, values in sections.items()
        for field in fields(values)
        if section == "limits" or LIMIT.search(field.name)
    }
    held = {match[1]: match[2] for match in re.finditer(r"^\| `(\w+\.\w+)` \|[^|]*\|(.*)\|$", PAGE.read_text(), re.M)}
    assert limits - NO_BOUNDS == set(held)
    starts = {name for name, tests in held.items() if "test_a_start_at_a_limit" in tests}
    assert starts == {name for name in STARTS if "." in name}


def test_every_test_of_a_fault_is_of_the_row_that_names_it() -> None:
    of = {name: row for file in FAULTS.glob("test_*.py") for name, row in rows_of(file.read_text()).items()}
    assert set(of.values()) == set(range(1, ROWS + 1))
    for line in PAGE.read_text().splitlines():
        if number := re.match(r"\| (\d+) \|", line):
            named = {of[name] for _, name in NAMED.findall(line) if name in of}
            assert named == {int(number[1])}


def rows_of(source: str) -> dict[str, int]:
    """The tests marked with `@fault(ROW, ...)`."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        for mark in getattr(node, "decorator_list", ()):
            match mark:
                case ast.Call(func=ast.Name("fault"), args=[ast.Constant(int(row)), *_]):
                    found[node.name] = row  # type: ignore[attr-defined]
    return found


def functions(source: str) -> set[str]:
    return {
        node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
