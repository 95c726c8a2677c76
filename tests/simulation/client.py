"""One client with a temper: it follows the protocol or not, reads or not, leaves or not; it checks what it hears."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from streamer.session.events import Mode
from streamer.testing import MemoryClient
from tests.session.harness import bursts
from tests.simulation.hearing import Hearing

RATE = 16_000
SPEECH = bursts(0.4, 1.1, 0.9, 0.4, 0.8, 2.5, 1.4, 0.2, 0.7, 6.0, 1.0).tobytes()


@dataclass(slots=True)
class SentStream:
    """One stream as the client sent it."""

    channels: int
    interims: bool
    hearing: Hearing | None = None
    bytes: int = 0


@dataclass(slots=True)
class ReceivedStream:
    """What a client heard of one stream, checked as it comes."""

    mode: Mode
    sent: SentStream
    open: dict[int, float] = field(default_factory=dict)
    ended: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    answered: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    finals: set[tuple[int, int]] = field(default_factory=set)
    committed: int = 0

    def take(self, event: dict[str, Any]) -> None:
        if self.sent.hearing is not None:
            self.sent.hearing.take(event)
        getattr(self, "_" + event["type"], lambda _: None)(event)

    def _speech_started(self, event: dict[str, Any]) -> None:
        channel, at = event["channel"], event["time"]
        assert channel not in self.open, "speech opens once"
        assert at >= max(self.ended[channel], default=0.0) - 1e-6
        self.open[channel] = at

    def _speech_ended(self, event: dict[str, Any]) -> None:
        channel, at = event["channel"], event["time"]
        assert self.open.pop(channel) < at
        self.ended[channel].append(at)

    def _segment(self, event: dict[str, Any]) -> None:
        channel, key = event["channel"], (event["channel"], event["segment_id"])
        assert key not in self.finals, "nothing comes after a final"
        if not event["is_final"]:
            assert self.sent.interims, "interims come only when asked for"
            return
        self.finals.add(key)
        self._range(channel, event["start_time"], event["end_time"])

    def _error(self, event: dict[str, Any]) -> None:
        if not event.get("fatal") and "end_time" in event:
            self._range(event["channel"], event["start_time"], event["end_time"])

    def _range(self, channel: int, start: float, end: float) -> None:
        if self.mode is Mode.SIMPLE:
            assert abs(start - self.answered[channel]) < 1e-4, "pieces have no gap and no overlap"
        else:
            assert start >= self.answered[channel] - 1e-4
            assert any(abs(end - at) < 1e-4 for at in self.ended[channel]), "a final follows its speech's end"
        self.answered[channel] = end

    def _ack(self, event: dict[str, Any]) -> None:
        assert self.committed <= event["committed"] <= event["received"]
        self.committed = event["committed"]

    def _finished(self, event: dict[str, Any]) -> None:
        frames = self.sent.bytes // (2 * self.sent.channels)
        if event["reason"] in ("stopped", "restarted"):
            assert event["received"] == frames, "every frame that was sent was received"
        assert event["received"] <= frames
        assert event["processed"] <= event["received"]
        assert not self.open
        if event["failed"] == 0:
            assert event["processed"] == event["received"], "nothing is lost"
        for channel in range(self.sent.channels):
            if self.mode is Mode.SIMPLE:
                assert abs(self.answered[channel] - event["received"] / RATE) < 1e-3, "all of it was answered for"
            else:
                assert max(self.ended[channel], default=0.0) <= self.answered[channel] + 1e-4


class Client:
    """Plays a script made of dice against one server end, and keeps the score."""

    def __init__(
        self, line: MemoryClient[str | bytes], mode: Mode, rng: random.Random, *, has_audio: bool = False
    ) -> None:
        self._has_audio = has_audio
        self._line = line
        self._mode = mode
        self._rng = rng
        self._sent: list[SentStream] = []
        self._patience = rng.choice(["reads", "reads", "reads", "slow", "deaf"])
        self._manners = rng.choice(["stop", "stop", "stop", "stop", "leave", "silent"])
        self.events = 0
        self.streams = 0
        self.fatal: str | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._speak())

    async def _listen(self) -> None:
        heard: ReceivedStream | None = None
        if self._patience == "deaf":
            return
        while (frame := await self._line.receive()) is not None:
            assert self.fatal is None, "a fatal error is the last event"
            if isinstance(frame, bytes):
                assert heard is not None
                assert heard.sent.hearing is not None, "audio comes only when asked for"
                heard.sent.hearing.take_audio(frame)
                continue
            event = json.loads(frame)
            self.events += 1
            if event["type"] == "started":
                assert heard is None, "a stream ends before the next begins"
                heard = ReceivedStream(self._mode, self._sent[self.streams])
                self.streams += 1
            elif event["type"] == "error" and event["fatal"]:
                self.fatal = event["code"]
            if heard is not None:
                heard.take(event)
                if event["type"] == "finished":
                    heard = None
            if self._patience == "slow":
                await asyncio.sleep(self._rng.uniform(0, 0.4))

    async def _speak(self) -> None:
        rng = self._rng
        try:
            for _ in range(rng.randrange(1, 4)):
                await self._stream()
                if self._line.close_info is not None:
                    return
            if self._manners == "stop":
                await self._say(type="stop")
            elif self._manners == "leave":
                await asyncio.sleep(rng.uniform(0, 1))
                self._line.close()
        except ConnectionError:
            pass

    async def _stream(self) -> None:
        rng = self._rng
        sent = SentStream(rng.choice([1, 1, 1, 2]), rng.random() < 0.5)
        if self._has_audio and rng.random() < 0.7:
            sent.hearing = Hearing(self._mode, sent.channels)
        self._sent.append(sent)
        await self._say(
            type="start",
            format={"encoding": "pcm_s16le", "sample_rate": RATE, "channels": sent.channels},
            interim_results=sent.interims,
            **({"audio_out": self._audio_out()} if sent.hearing else {}),
            **({"chunk_ms": rng.choice([40, 250, 1_000])} if rng.random() < 0.4 else {}),
        )
        pace = rng.choice([0.0, 0.3, 1.0, 1.0])
        size = rng.choice([64, 640, 640, 3_200, 3_200, 32_000, 60_000])
        begin = rng.randrange(0, len(SPEECH) - 2, 2)
        for at in range(begin, min(len(SPEECH), begin + rng.randrange(2_000, 20_000 if size == 64 else 400_000)), size):
            data = SPEECH[at : at + size]
            sent.bytes += len(data)
            if sent.hearing is not None:
                sent.hearing.sent.append(data)
            await self._line.send(data)
            await asyncio.sleep(pace * len(data) / (2 * sent.channels * RATE))
            if rng.random() < 0.02:
                await self._misbehave()

    async def _misbehave(self) -> None:
        match self._rng.randrange(7 if self._has_audio else 6):
            case 0:
                await self._say(type="flush", id="f")
            case 1:
                await asyncio.sleep(self._rng.choice([0.5, 3.0, 8.0]))
            case 2:
                await self._line.send('{"type":"stop","keep_opne":true}')
            case 3:
                await self._line.send("garbage")
            case 4:
                await self._say(type="keepalive")
            case 5:
                self._line.ping()
            case 6:
                await self._say(type="clear")

    def _audio_out(self) -> dict[str, object]:
        return {"encoding": "pcm_s16le", "sample_rate": RATE, "paced": self._rng.random() < 0.7}

    async def _say(self, **message: object) -> None:
        await self._line.send(json.dumps(message))
