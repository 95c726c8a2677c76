"""One table of scenarios over memory, WebSocket v2 and gRPC: a carrier changes nothing of what a client hears."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.events import (
    Draining,
    Error,
    Event,
    Finished,
    Flushed,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
)
from streamer.errors import ErrorCode, Overloaded
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.session.events import Mode
from streamer.session.messages import Audio, Flush, KeepAlive, Start, Stop
from tests.session.harness import S16, bursts
from tests.transports.carriers import CARRIERS, LEFT, NORMAL, PATIENCE_S, Peer, ReceivedEvents, calling, serving_all

SECOND = Audio(bytes(32_000))
UTTERANCE = Audio(bursts(0.5, 1.0, 1.0).tobytes())
SPEAKING = Audio(bursts(0.5, 1.0).tobytes())
TWO_CHANNELS = AudioFormat(Encoding.PCM_S16LE, 16_000, 2)

Script = Callable[[Peer], Awaitable[None]]


def says(*requests: Start | Audio | Flush | Stop | KeepAlive, after: type[Event] = Started) -> Script:
    """A client that starts, waits, says all of it, and hears the rest."""

    async def script(peer: Peer) -> None:
        first, *rest = requests
        await peer.say(first)
        await peer.hear(after)
        await peer.say(*rest)
        await peer.hear_the_end()

    return script


async def interims(peer: Peer) -> None:
    noise = bursts(0.0, 2.0).tobytes()
    await peer.say(Start(S16, interim_results=True, interim_interval_ms=200))
    for at in range(0, len(noise), 16_000):
        await peer.say(Audio(noise[at : at + 16_000]))
        await peer.hear(Segment)
    await peer.say(Stop())
    await peer.hear_the_end()


async def flush(peer: Peer) -> None:
    await peer.say(Start(S16), SPEAKING)
    await peer.hear(SpeechStarted)
    await peer.say(Flush("a"))
    await peer.hear(Flushed)
    await peer.say(SPEAKING)
    await peer.hear(SpeechStarted)
    await peer.say(Flush(), Stop())
    await peer.hear_the_end()


async def restart(peer: Peer) -> None:
    await peer.say(Start(S16), SPEAKING)
    await peer.hear(SpeechStarted)
    await peer.say(Start(S16), UTTERANCE)
    await peer.hear(Finished)
    await peer.hear(Segment)
    await peer.say(Stop())
    await peer.hear_the_end()


async def another_stream(peer: Peer) -> None:
    await peer.say(Start(S16), UTTERANCE)
    await peer.hear(Segment)
    await peer.say(Stop(keep_open=True))
    await peer.hear(Finished)
    await peer.say(UTTERANCE)
    await peer.hear(Segment)
    await peer.say(Stop())
    await peer.hear_the_end()


async def two_channels(peer: Peer) -> None:
    left, right = bursts(0.5, 1.0, 1.5), bursts(1.0, 0.5, 1.5)
    both = bytearray(2 * len(left.tobytes()))
    for at, side in ((0, left), (1, right)):
        memoryview(both).cast("h")[at::2] = memoryview(side.tobytes()).cast("h")  # type: ignore[index]
    await peer.say(Start(TWO_CHANNELS))
    for at in range(0, len(both), 64_000):
        await peer.say(Audio(bytes(both[at : at + 64_000])))
    await peer.hear(Segment)
    await peer.hear(Segment)
    await peer.say(Stop())
    await peer.hear_the_end()


async def out_of_order(peer: Peer) -> None:
    await peer.say(SECOND)
    await peer.hear(Error)
    await peer.say(Flush("early"))
    await peer.hear(Error)
    await peer.say(Stop())
    await peer.hear(Error)
    await peer.say(Start(S16), Stop())
    await peer.hear_the_end()


async def not_of_the_protocol(peer: Peer) -> None:
    await peer.say(Start(S16))
    await peer.say_badly()
    await peer.hear(Error)
    await peer.say(UTTERANCE, Stop())
    await peer.hear_the_end()


async def the_model_fails_once(peer: Peer) -> None:
    await peer.say(Start(S16), UTTERANCE)
    await peer.hear(Error)
    await peer.say(UTTERANCE)
    await peer.hear(Segment)
    await peer.say(Stop())
    await peer.hear_the_end()


async def floods_with_words(peer: Peer) -> None:
    await peer.say(Start(S16), UTTERANCE)
    await peer.hear(SpeechEnded)
    await peer.say(Stop(keep_open=True), *[Flush()] * 4)
    await peer.hear_the_end()


async def half_close(peer: Peer) -> None:
    await peer.say(Start(S16), SPEAKING)
    await peer.hear(SpeechStarted)
    await peer.half_close()
    await peer.hear_the_end()


async def half_close_after_stop(peer: Peer) -> None:
    await peer.say(Start(S16), UTTERANCE, Stop(keep_open=True))
    await peer.hear(Finished)
    await peer.half_close()
    await peer.hear_the_end()


async def cancel(peer: Peer) -> None:
    await peer.say(Start(S16), UTTERANCE)
    await peer.hear(SpeechEnded)
    peer.cut()
    await peer.hear_the_end()


async def drain(peer: Peer) -> None:
    await peer.say(Start(S16), SPEAKING)
    await peer.hear(SpeechStarted)
    peer.server.connections.drain(25.0)
    await peer.hear(Draining)
    await peer.server.connections.finish(0.0)
    await peer.hear_the_end()


async def nothing(peer: Peer) -> None:
    await peer.hear_the_end()


def fails_first(count: int) -> Callable[[Job], Outcome]:
    jobs = 0

    def answer(job: Job) -> Outcome:
        nonlocal jobs
        jobs += 1
        if jobs <= count:
            return JobFailed(ErrorCode.MODEL_ERROR, "no idea")
        return Output.of({"count": len(job.samples), "nested": [1, 0.5, None, True, {"é": "ü"}]})

    return answer


@dataclass(frozen=True)
class Scenario:
    """What a client does, on what server; and what it hears at least."""

    script: Script
    kinds: str
    """Of the events, in their order, without acks."""
    end: str = NORMAL
    mode: Mode = Mode.SEGMENTED
    settings: Mapping[str, Any] = field(default_factory=dict)
    failures: int = 0
    """How often the model fails before it answers."""
    held: bool = False
    """The model does not answer at all."""
    refuse: Overloaded | None = None
    draining: bool = False
    deadline_s: float | None = None


UTTERED = "SpeechStarted SpeechEnded Segment"
SHORT = {"start_timeout_s": 0.2, "idle_timeout_s": 0.2}
SCENARIOS: dict[str, Scenario] = {
    "nothing but a stop": Scenario(says(Start(S16), Stop()), "Started Finished"),
    "an utterance": Scenario(says(Start(S16), UTTERANCE, Stop()), f"Started {UTTERED} Finished"),
    "simple": Scenario(
        says(Start(S16, chunk_ms=500), SECOND, Stop()), "Started Segment Segment Finished", mode=Mode.SIMPLE
    ),
    "kept alive": Scenario(says(Start(S16), KeepAlive(), KeepAlive(), Stop()), "Started Finished"),
    "traced": Scenario(says(Start(S16, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"), Stop()),
                       "Started Finished"),
    "flush": Scenario(flush, f"Started {UTTERED} Flushed {UTTERED} Flushed Finished"),
    "restart": Scenario(restart, f"Started {UTTERED} Finished Started {UTTERED} Finished"),
    "another stream": Scenario(another_stream, f"Started {UTTERED} Finished Started {UTTERED} Finished"),
    "interims": Scenario(interims, "Started SpeechStarted" + " Segment" * 4 + " SpeechEnded Segment Finished"),
    "two channels": Scenario(
        two_channels, "Started SpeechStarted SpeechStarted SpeechEnded SpeechEnded Segment Segment Finished"
    ),
    "half-close": Scenario(half_close, f"Started {UTTERED} Finished"),
    "half-close after a stop": Scenario(half_close_after_stop, f"Started {UTTERED} Finished"),
    "cancel": Scenario(cancel, "Started SpeechStarted SpeechEnded", LEFT, held=True),
    "deadline": Scenario(says(Start(S16), UTTERANCE), f"Started {UTTERED}", LEFT, deadline_s=0.5),
    "drain": Scenario(drain, "Started SpeechStarted Draining SpeechEnded Segment Finished", "draining"),
    "bad_state": Scenario(out_of_order, "Error Error Error Started Finished"),
    "bad_request": Scenario(not_of_the_protocol, f"Started Error {UTTERED} Finished"),
    "bad_request in a start": Scenario(says(Start(S16, chunk_ms=1), after=Error), "Error", "bad_request"),
    "invalid_format": Scenario(
        says(Start(AudioFormat(Encoding.MULAW, 1, 1)), after=Error), "Error", "invalid_format"
    ),
    "message_too_big": Scenario(
        says(Start(S16), Flush("x" * 20_000)), "Started Error", "message_too_big"
    ),
    "stream_too_long": Scenario(
        says(Start(S16), SECOND, SECOND),
        "Started Error",
        "stream_too_long",
        mode=Mode.SIMPLE,
        held=True,
        settings={"limits": {"max_stream_s": 1.5}},
    ),
    "start_timeout": Scenario(nothing, "Error", "start_timeout", settings={"limits": SHORT}),
    "idle_timeout": Scenario(
        says(Start(S16)), "Started Error", "idle_timeout", settings={"limits": {"idle_timeout_s": 0.2}}
    ),
    "rate_limited": Scenario(
        floods_with_words, "Started SpeechStarted SpeechEnded Error", "rate_limited",
        held=True, settings={"limits": {"max_pending_messages": 3}},
    ),
    "model_error for a range": Scenario(
        the_model_fails_once, f"Started SpeechStarted SpeechEnded Error {UTTERED} Finished", failures=1
    ),
    "model_error too often": Scenario(
        says(Start(S16, chunk_ms=200), Audio(bytes(16_000))), "Started Error Error Error", "model_error",
        mode=Mode.SIMPLE, failures=9, settings={"limits": {"max_model_failures": 2}},
    ),
    "unauthenticated": Scenario(
        nothing, "", "refused: unauthenticated", settings={"access": {"keys": "tests:" + "0" * 64}}
    ),
    "overloaded": Scenario(nothing, "", "refused: overloaded", refuse=Overloaded(retry_after_s=1.5)),
    "draining": Scenario(nothing, "", "refused: draining", draining=True),
}  # fmt: skip


async def played(scenario: Scenario, carrier: str) -> ReceivedEvents:
    """A scenario over one carrier, to its end on both sides; nothing of it is left."""
    async with serving_all(**scenario.settings) as (app, notes):
        app.engine._answer = fails_first(scenario.failures)  # type: ignore[attr-defined]
        app.engine.is_holding = scenario.held  # type: ignore[attr-defined]
        app.engine.refuse_admission = scenario.refuse  # type: ignore[attr-defined]
        app.admission.draining = scenario.draining
        async with calling(app, carrier, scenario.mode, deadline_s=scenario.deadline_s) as peer:
            if not peer.end:
                await scenario.script(peer)
        async with asyncio.timeout(PATIENCE_S):
            await app.connections.wait_empty()
        assert not app.scoring.rows  # type: ignore[attr-defined]
        assert not app.engine.jobs  # type: ignore[attr-defined]
        return ReceivedEvents(peer.heard, peer.end, notes)


def plain(events: list[Event]) -> list[dict[str, Any]]:
    """Without what differs from one run to the next: the session's name, and sizes of encodings in a text."""
    differs = {"session_id", "message"}
    return [
        {"kind": type(event).__name__} | {k: v for k, v in msgspec.structs.asdict(event).items() if k not in differs}
        for event in events
    ]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_carrier_tells_the_same(name: str, carrier: str) -> None:
    scenario = SCENARIOS[name]
    told = await played(scenario, carrier)
    assert [type(event).__name__ for event in told.heard] == scenario.kinds.split()
    assert told.end == scenario.end
    if carrier != "memory":
        reference = await played(scenario, "memory")
        assert plain(told.heard) == plain(reference.heard)
        assert [(ended.code, ended.peer_disconnected) for ended in told.notes.ends] == [
            (ended.code, ended.peer_disconnected) for ended in reference.notes.ends
        ]
