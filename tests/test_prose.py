"""Sentences of the code, the pages and the help are plain English: subject, verb, object; see docs/glossary.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from streamer.cli import app
from tests.architecture import ROOT

SRC = ROOT / "src" / "streamer"

_SENTENCE = r"(?:^|(?<=[.!?:;] ))"
PATTERNS = {
    "a sentence begins with Who, Whoever, What, Whatever or Nobody": (
        rf"{_SENTENCE}(?:Who|Whoever|Whom|Whose|What|Whatever|Nobody|Anybody|Everybody|Somebody)\b(?![^.;:]*\?)"
    ),
    "`is none`, `are none` or `has none`": r"(?<!there )\b(?:is|are|was|were|has|have|had) none\b(?! of\b)",
    "`so many`, `so much`, `so long`, `that much` for a quantity": (
        r"\b(?:so (?:many|much|long|often|large|small)|that (?:many|much))\b(?! as\b| that\b)"
    ),
    "`where` for `if` or `when`": (
        r"(?:^|(?<=[.!?:;] ))Where (?:a|an|the|there|no|nothing|it|they|this|that|one|these|those|any)\b(?![^.;:]*\?)"
        r"|\b(?:None|True|False|empty|0|nothing|only|except|and|but|or|even|unless) where\b"
        r"|\bwhere (?:there is|there are|there was|nothing|nobody|needed|no)\b"
    ),
}
"""What a newcomer, or an operator at three in the morning, has to read twice."""

EXCEPTIONS: dict[str, str] = {}
"""Sentences that match a pattern, each with the reason why it stays."""


def docstrings_and_comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each docstring, attribute docstring and comment block of a module, with its line; code is left out."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value
    block: list[str] = []
    for number, line in enumerate(source.splitlines(), 1):
        comment = re.search(r"(?:^\s*|\s{2})#(?!:| noqa| type:| fmt:|!) ?(.*)$", line)
        if comment and line.lstrip().startswith("#"):
            block.append(comment[1])
            continue
        if block:
            yield number - len(block), "\n".join(block)
            block = []
        if comment:
            yield number, comment[1]


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module that hold a sentence: messages of errors and logs, help of options and metrics."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {
        id(statement.value)
        for node in ast.walk(tree)
        for statement in (node.body if isinstance(getattr(node, "body", None), list) else [])
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if node.value.count(" ") >= 2:
                yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(
                    part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "1"
                    for part in node.values
                ),
            )


def paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a page, without its code."""
    text = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), path.read_text("utf-8"), flags=re.M | re.S)
    number = 1
    for paragraph in re.split(r"(\n\s*\n|\n(?=\s*[-*] |\|))", text):
        yield number, re.sub(r"^\s*(?:[-*#>]+|\d+\.)\s+", "", paragraph)
        number += paragraph.count("\n")


def helps() -> Iterator[tuple[str, str]]:
    """Yield the help of each command and of its options."""

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
        yield name, command.help or ""
        for parameter in command.params:
            yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
        for child, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{name} {child}")

    yield from walk(get_command(app), "streamer")


def violations(text: str) -> Iterator[str]:
    """Yield what is wrong with a text; quotations in backticks are left out."""
    plain = re.sub(r"`[^`]*`", "it", re.sub(r"\s+", " ", text.strip()))
    for rule, pattern in PATTERNS.items():
        for match in re.finditer(pattern, plain):
            sentence = plain[max(0, match.start() - 30) : match.end() + 50]
            if not any(kept in plain for kept in EXCEPTIONS):
                yield f"{rule}: ...{sentence}..."


def modules() -> list[Path]:
    return sorted(path for path in SRC.rglob("*.py") if "/pb/" not in str(path))


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_module_is_written_in_plain_sentences(path: Path) -> None:
    texts = [*docstrings_and_comments(path), *strings(path)]
    found = [f"{path}:{line}: {what}" for line, text in texts for what in violations(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", pages(), ids=name)
def test_a_page_is_written_in_plain_sentences(path: Path) -> None:
    found = [f"{path}:{line}: {what}" for line, text in paragraphs(path) for what in violations(text)]
    assert not found, "\n".join(found)


def test_the_help_is_written_in_plain_sentences() -> None:
    found = [f"{where}: {what}" for where, text in helps() for what in violations(text)]
    assert not found, "\n".join(found)
