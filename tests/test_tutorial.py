"""The programs of the tutorial run as they are, one after the other, from an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import ROOT
from tests.cli.serving import environment, served

FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(), re.M | re.S))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, program in FILES.items():
        (tmp_path / name).write_text(program)
    return tmp_path


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_model_passes_its_check(folder: Path) -> None:
    assert run("-m", "streamer", "check", "speech:loudness").startswith("loudness: ")


def test_the_program_hears_the_tone_at_its_loudness(folder: Path) -> None:
    with served("speech:loudness", "--grpc-port", "0") as server:
        program = folder / "listen.py"
        program.write_text(program.read_text().replace("localhost:8080", server.url.removeprefix("http://")))
        said = run("listen.py")
    levels = [float(level) for level in re.findall(r"s: (-?[\d.]+) dB$", said, re.M)]
    assert levels
    assert all(-15 < level < -14 for level in levels)  # 9000 / 32768 / sqrt(2)


def test_the_test_of_the_model_passes(folder: Path) -> None:
    assert "1 passed" in run("-m", "pytest", "-p", "no:cacheprovider", "test_speech.py")
