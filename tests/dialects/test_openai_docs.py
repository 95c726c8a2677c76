"""The programs of the page for clients of OpenAI run as they stand there."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.architecture import ROOT
from tests.dialects.openai_serving import TWO, openai_serving

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how/openai.md").read_text(), re.DOTALL)
SAID = ["Word1 word2 word3 word4. Word1 word2 word3 word4 word5."] * 2
"""Last line that each program prints."""


@pytest.mark.parametrize("index", range(len(SAID)))
async def test_a_program_of_the_page_prints_the_transcript(index: int, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="OpenAI's client is not installed: pip install openai==3.57.0")
    (tmp_path / "recording.wav").write_bytes(TWO)
    async with openai_serving() as app:
        program = PROGRAMS[index].replace("http://localhost:8080", app.url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", program, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().splitlines()[-1].strip() == SAID[index]


def test_every_program_of_the_page_is_run() -> None:
    assert len(PROGRAMS) == len(SAID)
