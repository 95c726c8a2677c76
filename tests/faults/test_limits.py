"""Each limit of the settings over both transports: at the limit all is well, one past it is refused by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from streamer.app import App
from streamer.audio.format import AudioFormat, Encoding
from streamer.client.events import Error, Finished, Started
from streamer.client.grpc_dialect import GrpcClientCodec
from streamer.client.transport import Closed
from streamer.session.events import Mode
from streamer.session.messages import Audio, Start, Stop
from tests.session.harness import S16
from tests.transports.carriers import NORMAL, Peer, calling, serving_all

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSPORTS = ("websocket", "grpc")
LIMITS = {
    "max_channels": 2,
    "max_control_bytes": 700,
    "max_audio_message_bytes": 8_000,
    "max_stream_s": 1.0,
    "max_metadata_entries": 3,
    "max_metadata_bytes": 10,
    "max_options_bytes": 100,
}
SESSIONS = 2


def options(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return json.dumps({"a": "x" * (size - 8)}, separators=(",", ":")).encode()


def metadata(entries: int = 1, size: int = 1) -> dict[str, str]:
    return {f"{number}": "x" * size for number in range(entries)}


@dataclass(frozen=True)
class Limit:
    """`start(n)` is a start that asks for so much."""

    start: Callable[[int], Start]
    last: int
    code: str
    field: str
    step: int = 1


STARTS = {
    "limits.max_channels": Limit(
        lambda n: Start(AudioFormat(Encoding.PCM_S16LE, 16_000, n)), 2, "invalid_format", "format.channels"
    ),
    "limits.max_metadata_entries": Limit(lambda n: Start(S16, metadata=metadata(n)), 3, "bad_request", "metadata"),
    "limits.max_metadata_bytes": Limit(lambda n: Start(S16, metadata=metadata(1, n)), 10, "bad_request", "metadata"),
    "limits.max_options_bytes": Limit(lambda n: Start(S16, options=options(n)), 100, "bad_request", "options"),
    "session.max_piece_ms": Limit(lambda n: Start(S16, chunk_ms=n), 10_000, "bad_request", "chunk_ms"),
    "the shortest chunk": Limit(lambda n: Start(S16, chunk_ms=n), 20, "bad_request", "chunk_ms", step=-1),
    "the lowest rate": Limit(
        lambda n: Start(AudioFormat(Encoding.PCM_S16LE, n, 1)), 4_000, "invalid_format", "format.sample_rate", step=-1
    ),
    "the highest rate": Limit(
        lambda n: Start(AudioFormat(Encoding.PCM_S16LE, n, 1)), 192_000, "invalid_format", "format.sample_rate"
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[App]:
    async with serving_all(limits=LIMITS, server={"max_sessions": SESSIONS}) as (app, _):
        yield app


@pytest_asyncio.fixture(loop_scope="module", params=TRANSPORTS)
async def peer(app: App, request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    """A client; when it is gone nothing of it is left."""
    async with calling(app, request.param, Mode.SIMPLE) as peer:
        yield peer
    await app.connections.wait_empty()
    assert app.admission.active == 0
    assert not app.scoring.rows  # type: ignore[attr-defined]


async def passes(peer: Peer) -> Finished:
    await peer.hear_the_end()
    assert peer.end == NORMAL
    assert not [event for event in peer.heard if isinstance(event, Error)]
    finished = peer.heard[-1]
    assert isinstance(finished, Finished)
    return finished


async def is_refused(peer: Peer, code: str, words: str) -> None:
    await peer.hear_the_end()
    assert peer.end == code
    error = peer.heard[-1]
    assert isinstance(error, Error)
    assert (error.code, error.fatal) == (code, True)
    assert words in error.message


@pytest.mark.parametrize("name", STARTS)
async def test_a_start_at_a_limit(peer: Peer, name: str) -> None:
    limit = STARTS[name]
    await peer.say(limit.start(limit.last), Stop())
    await passes(peer)


@pytest.mark.parametrize("name", STARTS)
async def test_a_start_one_past_a_limit(peer: Peer, name: str) -> None:
    limit = STARTS[name]
    await peer.say(limit.start(limit.last + limit.step))
    await is_refused(peer, limit.code, limit.field)


@pytest.mark.parametrize("past", [0, 1])
async def test_a_control_message(peer: Peer, past: int) -> None:
    """Of exactly so many bytes as it travels."""
    sizes = {len(_encoded(peer, n)): n for n in range(400, 700)}
    await peer.link.send_frame(_encoded(peer, sizes[LIMITS["max_control_bytes"] + past]))  # type: ignore[index]
    if past:
        await is_refused(peer, "message_too_big", "at most 700 bytes, got 701")
    else:
        await peer.say(Stop())
        await passes(peer)


@pytest.mark.parametrize("past", [0, 1])
async def test_an_audio_message(peer: Peer, past: int) -> None:
    await peer.say(Start(S16))
    await peer.hear(Started)
    await peer.say(Audio(bytes(8_000 + past)))
    if past and isinstance(peer.dialect, GrpcClientCodec):
        await is_refused(peer, "message_too_big", "8000")
    elif past:  # nothing longer is read at all: the library's own close
        closed = await peer.link.receive_frame()
        assert isinstance(closed, Closed)
        assert closed.code == 1009
    else:
        await peer.say(Stop())
        assert (await passes(peer)).processed == 4_000


@pytest.mark.parametrize("past", [0, 1])
async def test_the_length_of_a_stream(peer: Peer, past: int) -> None:
    await peer.say(Start(S16), *[Audio(bytes(8_000))] * 4, *[Audio(bytes(2))] * past)
    if past:
        await is_refused(peer, "stream_too_long", "1")
    else:
        await peer.say(Stop())
        assert (await passes(peer)).processed == 16_000


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_one_session_more_than_all_is_refused_and_its_place_comes_back(app: App, transport: str) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(SESSIONS):
            peer = await stack.enter_async_context(calling(app, transport, Mode.SIMPLE))
            await peer.say(Start(S16))
            await peer.hear(Started)
        for other in TRANSPORTS:  # places are the server's, not a transport's
            async with calling(app, other, Mode.SIMPLE) as one_more:
                if not one_more.end:  # gRPC says it when the call is used
                    await one_more.hear_the_end()
                assert "overloaded" in one_more.end
    await app.connections.wait_empty()
    async with calling(app, transport, Mode.SIMPLE) as peer:
        await peer.say(Start(S16), Stop())
        await passes(peer)


def _encoded(peer: Peer, padding: int) -> Any:
    mode = peer.mode if isinstance(peer.dialect, GrpcClientCodec) else None  # elsewhere the address says it
    return peer.dialect.encode(Start(S16, mode=mode, tracestate="x" * padding))
