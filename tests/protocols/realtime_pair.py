"""A codec of the Realtime API joined to a real session, driven as the driver of a connection does it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from streamer.protocols.codec import Reply
from streamer.protocols.openai.file_request import NO_FLOOR, TurnFloor
from streamer.protocols.openai.realtime import Realtime
from streamer.protocols.openai.realtime_session import RealtimeSettings
from streamer.protocols.openai.realtime_wire import Transcription
from streamer.session.actions import Job, JobKind, Outcome, Output
from streamer.session.events import Mode
from streamer.session.settings import Limits, SessionSettings
from tests.session.harness import SessionHarness, bursts

RATE = 24_000
ID = "5b0f6f0e-0000-4000-8000-000000000000"
TRANSCRIPTION = "conversation.item.input_audio_transcription"
EASY = {"type": "server_vad", "silence_duration_ms": 500, "prefix_padding_ms": 300}


def sentence(job: Job) -> Outcome:
    """Return one word for each half second: `Word1 word2`, with a full stop at the end of a final."""
    words = [f"word{index}" for index in range(1, 1 + len(job.samples) // 8_000)]
    return Output.of({"text": " ".join(words).capitalize() + ("." if job.kind is JobKind.FINAL else "")})


def audio_of(*lengths_s: float) -> bytes:
    """Return silence and noise by turns, at 24 kHz, int16."""
    return bursts(*lengths_s, rate=RATE).tobytes()


class RealtimePair:
    """One connection. Each frame of the client is answered by scorer and model at once, unless it is `held`."""

    def __init__(
        self,
        model: Callable[[Job], Outcome] = sentence,
        *,
        limits: Limits | None = None,
        is_beta: bool = False,
        floor: TurnFloor = NO_FLOOR,
    ) -> None:
        limits = limits or Limits()
        self.outside = SessionHarness(SessionSettings(Mode.SEGMENTED, limits=limits), model)
        self.codec = Realtime(
            ID,
            16_000,
            limits,
            settings=RealtimeSettings(transcription=Transcription("scripted"), known_options=("language", "prompt")),
            expires_at=1_800_000_000,
            floor=floor,
            is_beta=is_beta,
        )
        self.frames: list[str] = []
        self.held = False
        self._encoded = 0
        self._steps(self.codec.begin())

    def send(self, kind: str, **fields: Any) -> None:
        self.send_frame(json.dumps({"type": kind, **fields}))

    def send_frame(self, frame: str | bytes) -> None:
        steps = self.codec.decode(frame)
        self._steps(steps if isinstance(steps, list) else [steps])

    def update(self, **settings: Any) -> None:
        """Change settings of the audio."""
        self.send("session.update", session={"type": "transcription", "audio": {"input": settings}})

    def append(self, audio: bytes, size: int = 4_800) -> None:
        for at in range(0, len(audio), size):
            self.send("input_audio_buffer.append", audio=base64.b64encode(audio[at : at + size]).decode())

    def commit(self) -> None:
        self.send("input_audio_buffer.commit")

    def settle(self) -> None:
        """Answer all that waits."""
        while self.outside.scores or self.outside.jobs:
            self.outside.settle()
            self._encode()

    def detect(self) -> None:
        """Detect the speech of all audio, ahead of a slow model."""
        while self.outside.scores:
            self.outside.score_one()
            self._encode()

    def _steps(self, steps: Any) -> None:
        for step in steps:
            if isinstance(step, Reply):
                assert isinstance(step.frame, str)
                assert not step.is_replaceable
                self.frames.append(step.frame)
            else:
                self.outside.say(step)
                self._encode()
        if not self.held:
            self.settle()

    def _encode(self) -> None:
        events = self.outside.events
        while self._encoded < len(events):
            self._encoded += 1
            for reply in self.codec.encode(events[self._encoded - 1]) or ():
                assert isinstance(reply.frame, str)
                self.frames.append(reply.frame)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.frames]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events whose type ends so."""
        return [event for event in self.events if event["type"].endswith(kind)]

    @property
    def kinds(self) -> list[str]:
        """The last word of each event's type."""
        return [event["type"].rpartition(".")[2] for event in self.events]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [event["error"] for event in self.of("error")]

    @property
    def transcripts(self) -> list[str]:
        return [event["transcript"] for event in self.of("completed")]

    def deltas(self, item_id: str) -> str:
        """The text that a client has that only appends."""
        return "".join(event["delta"] for event in self.of("delta") if event["item_id"] == item_id)
