"""A scripted recogniser behind a real server: the loudness of the audio says which sentence was spoken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from streamer.app import App
from streamer.config import Settings
from streamer.parts import AppParts, ServedModel
from streamer.session.actions import Job, JobKind, Outcome, Output
from streamer.testing import ScriptedEngine, ScriptedScoring

RATE = 16_000
SENTENCES = ("The weather today is cold and dark.", "Please turn on the light in the kitchen.", "Thank you!")


def recognise(job: Job) -> Outcome:
    """Return the sentence of the loudest sample; of an interim its first half."""
    loudest = float(np.abs(job.samples).max(initial=0.0))
    words = SENTENCES[min(len(SENTENCES), max(1, round(loudest * 5))) - 1].split()
    if job.kind is JobKind.INTERIM:
        words = words[: max(1, len(words) // 2)]
    return Output.of({"text": " ".join(words)})


def recognise_with_words(job: Job) -> Outcome:
    """Return the sentence with its words, spread evenly over the stream's time."""
    output = recognise(job)
    assert isinstance(output, Output)
    words = output.decode()["text"].split()
    start, step = job.start / job.sample_rate, job.seconds / len(words)
    timed: list[Any] = [
        {"word": word, "start_time": start + at * step, "end_time": start + (at + 1) * step, "confidence": 0.9}
        for at, word in enumerate(words)
    ]
    return Output.of({"text": " ".join(words), "words": timed, "language": "en"})


def recogniser(answer: Any = recognise, known_options: tuple[str, ...] = ()) -> AppParts:
    """Return the parts of a server with the recogniser. `known_options`: of its model."""
    model = ServedModel("scripted", RATE, False, 4, word_times="model", known_options=known_options)
    return AppParts(ScriptedEngine(answer), ScriptedScoring(), model)


@asynccontextmanager
async def dialect_server(name: str, parts: AppParts | None = None, **sections: Any) -> AsyncIterator[App]:
    """A server that speaks one dialect besides its own; `sections` are settings."""
    sections["server"] = {"port": 0, **sections.get("server", {})}
    sections["dialects"] = {"serve": (name,), **sections.get("dialects", {})}
    settings = Settings(**sections)
    async with App(settings, parts=parts or recogniser()) as app:
        yield app


def sentence(number: int, seconds: float = 1.2, rate: int = RATE) -> bytes:
    """Return loud audio that is recognised as the sentence of this number, from 1."""
    time = np.arange(round(seconds * rate)) / rate
    return pcm(0.2 * number * np.sin(2 * np.pi * 200 * time))


def silence(seconds: float = 1.5, rate: int = RATE) -> bytes:
    """Return silence, by default longer than what ends speech."""
    return b"\0\0" * round(seconds * rate)


def conversation(rate: int = RATE) -> bytes:
    """Return the first two sentences, with pauses around."""
    parts = [silence(0.5, rate), sentence(1, rate=rate), silence(1.5, rate), sentence(2, rate=rate), silence(1.5, rate)]
    return b"".join(parts)


def pcm(samples: Any) -> bytes:
    """Return samples as pcm_s16le."""
    scaled: NDArray[np.int16] = (np.clip(samples, -1, 1) * 32_767).astype("<i2")
    return scaled.tobytes()


def messages(audio: bytes, size: int) -> list[bytes]:
    """Return audio in messages of `size` bytes."""
    return [audio[at : at + size] for at in range(0, len(audio), size)]


async def native_finals(app: App, audio: bytes, rate: int = RATE) -> list[str]:
    """Return the texts that v2 returns for the audio."""
    async with aiohttp.ClientSession() as http, http.ws_connect(app.url + "/api/v2/segmented") as socket:
        await socket.send_json(
            {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": rate, "channels": 1}}
        )
        for piece in messages(audio, 3_200):
            await socket.send_bytes(piece)
        await socket.send_json({"type": "stop"})
        events = [message.json() async for message in socket]
    return [event["output"]["text"] for event in events if event["type"] == "segment" and event["is_final"]]
