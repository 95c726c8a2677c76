"""`streamer client --play` as a real process, with a loudspeaker that works, is slow, fails or is missing."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.app import App
from streamer.config import Settings

LOUDSPEAKER = Path(__file__).parent / "loudspeaker"


async def play(folder: Path, fault: str = "") -> tuple[int | None, str]:
    """Play the answer of a passthrough; return the exit code and stderr."""
    soundfile.write(folder / "in.wav", np.linspace(-1, 1, 8_000), 8_000, subtype="PCM_16")
    variables = {"PYTHONPATH": str(LOUDSPEAKER), "LOUDSPEAKER": str(folder / "played"), "LOUDSPEAKER_FAULT": fault}
    async with App(Settings(server={"port": 0, "model": "passthrough"})) as app:
        url = app.url.replace("http", "ws", 1) + "/api/v2/simple"
        command = [sys.executable, "-m", "streamer", "client", "-i", str(folder / "in.wav"), "--play", "-a", url]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **variables},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize("fault", ["", "slow"])
async def test_all_audio_is_played_however_slow_the_loudspeaker_is(tmp_path: Path, fault: str) -> None:
    code, err = await play(tmp_path, fault)
    assert code == 0, err
    assert (tmp_path / "played").stat().st_size == 2 * 8_000


@pytest.mark.parametrize(
    ("fault", "problem"), [("start", "cannot be opened: Device unavailable"), ("write", "failed: Unanticipated host")]
)
async def test_a_loudspeaker_that_fails_is_one_line_with_a_remedy(tmp_path: Path, fault: str, problem: str) -> None:
    code, err = await play(tmp_path, fault)
    last = err.splitlines()[-1]
    assert (code, "Traceback" in err) == (2, False), err
    assert last.startswith("error: --play: the loudspeaker ")
    assert problem in last
    assert "-o FILE" in last


async def test_a_missing_library_is_not_reported_as_a_missing_extra(tmp_path: Path) -> None:
    code, err = await play(tmp_path, "import")
    assert code == 2
    assert err == (
        "error: --play: the system's PortAudio library cannot be loaded (PortAudio library not found); "
        "install it (Debian: apt install libportaudio2), or save the audio with -o FILE\n"
    )
