"""Everything that tells how to install this package gives the name that the index has for it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from streamer.errors import DISTRIBUTION, install_command
from tests.architecture import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WRONG = re.compile(r"\bstreamer\[[a-z]|pip install (?:-U |--upgrade )?['\"]?streamer\b(?!-)")
EXTRA = re.compile(rf"{re.escape(DISTRIBUTION)}\[([a-z0-9,-]+)\]")


def texts() -> Iterator[Path]:
    for folder, suffixes in {
        "src": (".py", ".md"),
        "docs": (".md",),
        "examples": (".py",),
        "deploy": ("Dockerfile",),
    }.items():
        yield from (path for path in (ROOT / folder).rglob("*") if path.name.endswith(suffixes))
    yield from ROOT.glob("*.md")
    yield ROOT / "Makefile"


def extras() -> Iterator[tuple[str, str]]:
    """Yield every extra that is named, with its file: in texts, and as the argument of `install_command`."""
    for path in texts():
        text = path.read_text()
        for named in EXTRA.findall(text):
            yield from ((path.name, extra) for extra in named.split(","))
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(text)):
                is_one = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "install_command"
                if is_one and isinstance(node.args[0], ast.Constant):
                    yield path.name, node.args[0].value


def test_the_project_has_the_name_that_messages_say() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert install_command("grpc") == f"pip install '{DISTRIBUTION}[grpc]'"


def test_nothing_installs_another_project() -> None:
    wrong = [f"{path.relative_to(ROOT)}: {found[0]}" for path in texts() for found in WRONG.finditer(path.read_text())]
    assert not wrong, f"`streamer` on the index is another project; this one is {DISTRIBUTION}: {wrong}"


def test_every_extra_that_is_named_exists() -> None:
    named = set(extras())
    assert {"grpc", "otel", "plot"} <= {extra for _, extra in named}
    unknown = {(where, extra) for where, extra in named if extra not in PROJECT["optional-dependencies"]}
    assert not unknown
