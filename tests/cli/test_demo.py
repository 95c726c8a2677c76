"""`streamer demo`, whole: a real server, real speech, real recognition."""

from __future__ import annotations

import asyncio
import importlib.util
import sys

import aiohttp
import pytest

from streamer.cli.child import ServerFailed, serving

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None,
    reason="the weights are not installed: pip install moonshine-voice==0.0.73",
)

BUSY = ("warning lagging:", "warning interims_shed:")
"""Lines that say how busy the machine is."""


@needs_weights
async def test_the_demo_hears_what_is_said_while_it_is_being_said() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "demo"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, [line for line in err.decode().splitlines() if not line.startswith(BUSY)]) == (0, [])
    lines = out.decode().splitlines()
    finals = [line for line in lines if line.startswith("[") and not line.endswith(" ...")]
    assert [line.partition("] ")[2] for line in finals] == [
        "The weather today is cold and dark.",
        "Please turn on the light in the kitchen.",
    ]
    interims = [line for line in lines[: lines.index(finals[0])] if line.startswith("[") and line.endswith(" ...")]
    assert interims or any(words in err.decode() for words in BUSY)  # finals replace what comes too late
    assert "http://localhost:8080/" in out.decode()


async def test_a_server_that_does_not_come_up_is_named_with_its_last_words() -> None:
    with pytest.raises(ServerFailed, match="ended before it listened") as caught:
        async with serving("no.such.module:model"):
            pass
    assert "no.such.module" in str(caught.value)


async def test_the_server_is_ready_when_it_is_handed_out_and_gone_afterwards() -> None:
    async with aiohttp.ClientSession() as http:
        async with serving("stub") as child, http.get(f"{child.address}/readyz") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"{child.address}/readyz")
