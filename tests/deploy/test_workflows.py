"""GitHub's workflows are valid, do what `make` does, and may do no more than they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # YAML 1.1 reads `on` as true


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(path)["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def test_actionlint_finds_nothing() -> None:
    found = shutil.which("actionlint", path=f"{ROOT / 'build' / 'tools'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("actionlint is not installed: scripts/actionlint does it where there is Go")
    done = subprocess.run([found, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_a_workflow_may_only_read_and_ends(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert all("timeout-minutes" in job and "permissions" not in job for job in jobs(path).values())


@each
def test_an_action_has_a_version_and_a_checkout_keeps_no_credentials(path: Path) -> None:
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", step["uses"]), step
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": "false"}


@each
def test_what_a_workflow_makes_is_a_target(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for step in steps(path):
        if step.get("run", "").startswith("make "):
            assert step["run"].removeprefix("make ") in targets


def test_the_suite_runs_on_every_python_that_wheels_are_built_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert jobs(ROOT / ".github" / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]["python"] == PYTHONS
    builds = [f"cp{python.replace('.', '')}-*" for python in PYTHONS]
    assert project["tool"]["cibuildwheel"]["build"].split() == builds
