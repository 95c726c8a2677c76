"""The documentation holds together: its map forgets no page, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from streamer.config import describe, load
from tests.architecture import ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def links(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target in LINK.findall(page.read_text())}


def test_the_map_forgets_no_page() -> None:
    forgotten = set(DOCS.rglob("*.md")) - links(DOCS / "index.md") - {DOCS / "index.md"}
    assert not forgotten, f"docs/index.md links none of: {sorted(str(page.relative_to(DOCS)) for page in forgotten)}"


def test_the_page_of_the_configuration_is_what_the_command_prints() -> None:
    printed = describe(load(environ={}))
    page = (DOCS / "reference/configuration.md").read_text()
    assert f"```toml\n{printed.strip()}\n```" in page, "run `python -m tests.configuration`"


def test_the_navigation_has_every_page() -> None:
    listed = re.findall(r"^\s+- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "src").rglob("*.md")]
    broken = [f"{page.relative_to(ROOT)} -> {link}" for page in pages for link in links(page) if not link.exists()]
    assert not broken, f"broken links: {broken}"


def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.M)[0].split())
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert phony == described
