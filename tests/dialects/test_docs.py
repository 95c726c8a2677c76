"""The programs of the pages about dialects run as they are."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.resources import as_file
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest

from streamer.access import new_key
from streamer.dialects import table
from streamer.samples import sample
from tests.architecture import ROOT
from tests.cli.serving import environment, served
from tests.dialects.stage import GAP, TONE, transcribing
from tests.transports.serving import dialled, serving

KEY, KEPT = new_key("somebody")


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/how" / page).read_text(), re.M | re.S)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with the dialect of the page, under the name of one that the setting knows."""
    for name, source in zip(("protocols", "dialects"), blocks("write-a-dialect.md"), strict=True):
        module = ModuleType(f"streamer.{name}.plain")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(source, vars(module))
        module.__spec__ = sys.__spec__
    monkeypatch.setattr(table, "MODULES", {"vosk": "streamer.dialects.plain"})


@pytest.mark.usefixtures("plain")
async def test_the_dialect_of_the_page_is_served() -> None:
    headers = {"Authorization": f"Key {KEY}"}
    async with (
        serving(transcribing(), access={"keys": [str(KEPT)]}) as app,
        dialled(app, "/plain?rate=16000&speed=9", headers=headers) as socket,
    ):
        await socket.send_bytes(TONE + GAP)
        first = await socket.receive_str()
        await socket.send_str("and")
        await socket.send_bytes(TONE)
        await socket.send_str("end")
        lines = [first] + [message.data async for message in socket if message.type is aiohttp.WSMsgType.TEXT]
        assert lines == ["Number 1.", "error: expected audio, or end", "Number 2."]
        assert socket.close_code == 1000
        assert socket._response.headers["X-Streamer-Ignored"] == "speed"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
            async with dialled(app, "/plain?rate=8000", headers=headers):
                pass


@pytest.mark.skipif(
    importlib.util.find_spec("deepgram") is None, reason="deepgram-sdk is not installed, which `make setup` does"
)
@pytest.mark.skipif(importlib.util.find_spec("moonshine_voice") is None, reason="pip install moonshine-voice==0.0.73")
def test_the_program_for_deepgrams_clients_prints_what_was_said(tmp_path: Path) -> None:
    [program] = blocks("deepgram.md")
    with as_file(sample()) as path:
        (tmp_path / "recording.wav").write_bytes(path.read_bytes())
    with served("moonshine:tiny-en", "--grpc-port", "0") as server:
        program = program.replace("localhost:8080", server.url.partition("//")[2])
        run = [sys.executable, "-W", "ignore", "-c", program]
        printed = subprocess.run(
            run, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=True
        ).stdout
    assert "The weather today is cold and dark." in printed
    assert "Please turn on the light in the kitchen." in printed
