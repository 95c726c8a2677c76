"""The same audio at any rate, in any cut, through a real socket: the same events."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from streamer.samples import sample
from tests.faults.arena import WEATHER, Events, LocalArena, by_kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

needs_sox = pytest.mark.skipif(not shutil.which("sox"), reason="sox is not installed")

MAX_MESSAGE = 4_000_000
WITHIN_S = 0.040


@dataclass(frozen=True, slots=True)
class Variant:
    """A recording as a client would send it. `sox` names the sample format as that program does."""

    rate: int
    encoding: str
    channels: int

    @property
    def format(self) -> dict[str, Any]:
        return {"encoding": self.encoding, "sample_rate": self.rate, "channels": self.channels}

    @property
    def speaking(self) -> int:
        """The channel with the speech on it; the other is silent."""
        return self.channels - 1

    def audio(self) -> bytes:
        """The sample that comes with Streamer, made into this by sox."""
        sox = {"pcm_s16le": ["-e", "signed", "-b", "16"], "pcm_f32le": ["-e", "float", "-b", "32"]}[self.encoding]
        remix = ["remix", "0", "1"] if self.channels == 2 else []
        recording = Path(str(sample()))
        command = ["sox", "-G", "-D", str(recording), "-t", "raw", "-r", str(self.rate), *sox, "-", *remix]
        return subprocess.run(command, capture_output=True, check=True).stdout


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    model = {"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0}
    limits = {"max_audio_message_bytes": MAX_MESSAGE}
    async with App(Settings(server={"port": 0}, model=model, limits=limits)) as app:
        yield LocalArena(app)


async def heard(
    server: LocalArena, audio: bytes, cut: int, form: dict[str, Any], mode: str = "segmented", **start: Any
) -> dict[str, Events]:
    """What a client hears who sends `audio` in messages of `cut` bytes; all but the acks, which go by time."""
    async with server.peer("v2", mode) as peer:
        await peer.start(format=form, **start)
        await peer.audio(audio, cut=cut)
        await peer.stop()
        events = await peer.rest()
        assert peer.end == "normal"
    return by_kind(events)


def positions(events: dict[str, Events], channel: int) -> list[float]:
    """The times of speech on one channel, after checking that the others have none."""
    spoken = events["speech_started"] + events["speech_ended"] + events["segment"]
    assert all(event["channel"] == channel for event in spoken)
    started = [event["time"] for event in events["speech_started"]]
    ended = [event["time"] for event in events["speech_ended"]]
    assert [(event["start_time"], event["end_time"]) for event in events["segment"]] == list(
        zip(started, ended, strict=True)
    )
    return [*started, *ended]


PLAIN = Variant(16_000, "pcm_s16le", 1)


@pytest.mark.parametrize("cut", [1, 7, 256, 640, 3_200])
async def test_the_cut_changes_no_event(server: LocalArena, cut: int) -> None:
    audio = WEATHER if cut > 1 else WEATHER[: 3 * 32_000]
    whole = await heard(server, audio, 1_000_000, PLAIN.format)
    assert len(whole["segment"]) == (2 if cut > 1 else 1)
    assert await heard(server, audio, cut, PLAIN.format) == whole


@pytest.mark.parametrize("cut", [7, 640])
async def test_the_cut_changes_no_piece_of_a_fixed_length(server: LocalArena, cut: int) -> None:
    whole = await heard(server, WEATHER, 1_000_000, PLAIN.format, "simple", chunk_ms=500)
    pieces = whole["segment"]
    assert [piece["end_time"] for piece in pieces[:-1]] == [piece["start_time"] for piece in pieces[1:]]
    assert sum(piece["output"]["count"] for piece in pieces) == len(WEATHER) // 2
    assert await heard(server, WEATHER, cut, PLAIN.format, "simple", chunk_ms=500) == whole


@needs_sox
@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "second channel of two"])
@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
async def test_the_rate_moves_no_position_by_more_than_40_ms(
    server: LocalArena, rate: int, encoding: str, channels: int
) -> None:
    variant = Variant(rate, encoding, channels)
    audio = variant.audio()
    whole = await heard(server, audio, 1_000_000, variant.format)
    for cut in (641, 3_200):
        assert await heard(server, audio, cut, variant.format) == whole
    plain = positions(await heard(server, WEATHER, 3_200, PLAIN.format), 0)
    moved = [abs(a - b) for a, b in zip(positions(whole, variant.speaking), plain, strict=True)]
    assert max(moved) <= WITHIN_S


@needs_sox
@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 7, 256])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
async def test_the_smallest_cuts_change_nothing_at_any_rate(server: LocalArena, rate: int, cut: int) -> None:
    for variant in (Variant(rate, "pcm_s16le", 1), Variant(rate, "pcm_f32le", 2)):
        audio = variant.audio()
        assert await heard(server, audio, cut, variant.format) == await heard(server, audio, 1_000_000, variant.format)
