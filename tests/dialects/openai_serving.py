"""A real server whose model recognises scripted words, and OpenAI's own client library against it."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamer.app import App
from streamer.parts import AppParts, ServedModel
from streamer.session.actions import Job, JobKind, Outcome, Output
from streamer.testing import ScriptedEngine, ScriptedScoring
from tests.transports.serving import serving

RATE = 16_000
KEY = "key"


def sentence(job: Job) -> Outcome:
    """Return the text of a segment: one word for each half second, of which the first has a capital letter."""
    words = [f"word{index}" for index in range(1, 1 + len(job.samples) // (RATE // 2))]
    return Output.of({"text": " ".join(words).capitalize() + ("." if job.kind is JobKind.FINAL else "")})


def recogniser(answer: Callable[[Job], Outcome] = sentence) -> AppParts:
    """Return parts with a model that returns transcripts."""
    model = ServedModel("scripted", RATE, False, 4, word_times="estimated", known_options=("language", "prompt"))
    return AppParts(ScriptedEngine(answer), ScriptedScoring(), model)


def speech(seconds: float, rate: int = RATE) -> bytes:
    """Return a loud tone, int16."""
    time = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 440 * time) * 16_000).astype("<i2").tobytes()


def silence(seconds: float, rate: int = RATE) -> bytes:
    return bytes(2 * round(seconds * rate))


def wav(*pieces: bytes, channels: int = 1) -> bytes:
    """Return a WAV file of 16 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(b"".join(pieces))
    return file.getvalue()


TWO = wav(silence(0.5), speech(1.5), silence(1.5), speech(2.0), silence(1.5))
"""Two utterances."""


@asynccontextmanager
async def openai_serving(parts: AppParts | None = None, **sections: Any) -> AsyncIterator[App]:
    async with serving(parts or recogniser(), **sections) as app:
        yield app


def client_of(app: App, key: str = KEY, **options: Any) -> Any:
    """Return OpenAI's client, which is not a dependency: a test without it is skipped."""
    openai = pytest.importorskip("openai", reason="OpenAI's client is not installed: pip install openai==3.57.0")
    return openai.AsyncOpenAI(
        api_key=key, base_url=f"{app.url}/v1", max_retries=0, _strict_response_validation=True, **options
    )


def with_answer(answer: Callable[[Job], Outcome]) -> AppParts:
    return replace(recogniser(), engine=ScriptedEngine(answer))
