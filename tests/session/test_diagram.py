"""The page about the core shows the table that the code runs."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_table_of_states() -> None:
    diagram = runpy.run_path(str(ROOT / "scripts" / "state_diagram.py"))["diagram"]()
    assert diagram in (ROOT / "docs" / "how" / "core.md").read_text()
