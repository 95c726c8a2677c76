"""The programs of the README run as they are, from a folder with nothing but a recording."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import as_file
from pathlib import Path

import pytest

from streamer.samples import sample
from tests.architecture import ROOT
from tests.cli.serving import environment, served

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
MODEL = next(block for block in BLOCKS if block.startswith("# my_model.py"))
PROGRAMS = [block for block in BLOCKS if "asyncio.run" in block]


@pytest.mark.parametrize("program", PROGRAMS, ids=["library", "websocket"])
def test_a_program_of_the_readme_gets_the_results_of_its_model(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(MODEL)
    with as_file(sample()) as path:
        (tmp_path / "recording.wav").write_bytes(path.read_bytes())
    with served("my_model:loudness", "--grpc-port", "0") as server:
        (tmp_path / "program.py").write_text(program.replace("localhost:8080", server.url.removeprefix("http://")))
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "program.py"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("rms") == 2
