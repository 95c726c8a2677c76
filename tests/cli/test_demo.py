"""`streamer demo`, whole: a real server, real speech, real recognition."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.cli.server_subprocess import ServerFailed, run_server

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
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    lines, jobs = [], 0.0
    async for line in process.stdout:
        lines.append(line.decode().rstrip())
        if is_final(lines[-1]) and not jobs:  # the second sentence is still to come, so the server is there
            jobs = await jobs_of(re.findall(r"http://[\d.]+:\d+", lines[1])[0])
    errors = (await reading).decode().splitlines()
    assert (await process.wait(), [line for line in errors if not line.startswith(BUSY)]) == (0, [])
    assert [line.partition("] ")[2] for line in lines if is_final(line)] == [
        "The weather today is cold and dark.",
        "Please turn on the light in the kitchen.",
    ]
    assert jobs > 1, "no interim was asked for while the first sentence was said"
    assert "http://localhost:8080/" in "\n".join(lines)


def is_final(line: str) -> bool:
    return line.startswith("[") and not line.endswith(" ...")


async def jobs_of(address: str) -> float:
    """Return the number of jobs so far, with those that came too late: finals replace interims on a busy machine."""
    async with aiohttp.ClientSession() as http, http.get(f"{address}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    counted = ("streamer_inference_batch_size_sum", "streamer_interims_dropped_total")
    return sum(sample.value for family in families for sample in family.samples if sample.name in counted)


async def test_a_server_that_does_not_come_up_is_named_with_its_last_words() -> None:
    with pytest.raises(ServerFailed, match="ended before it listened") as caught:
        async with run_server("no.such.module:model"):
            pass
    assert "no.such.module" in str(caught.value)


async def test_a_demo_without_its_recogniser_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "moonshine_voice.py").write_text("raise ModuleNotFoundError('it is not here')\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "demo"),
        env=os.environ | {"PYTHONPATH": str(tmp_path), "HF_HOME": str(tmp_path), "STREAMER_OFFLINE": "1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert "pip install 'moonshine-voice==" in err.decode()


async def test_the_server_is_ready_when_it_is_handed_out_and_gone_afterwards() -> None:
    async with aiohttp.ClientSession() as http:
        async with run_server("stub") as child, http.get(f"{child.address}/readyz") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"{child.address}/readyz")
