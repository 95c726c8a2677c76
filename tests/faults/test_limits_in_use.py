"""Limits on what connections do together and over time, over both transports: at the limit, and one past it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from streamer.app import App, GrpcAvailability
from streamer.client.events import Ack, Error, Finished, Flushed, SpeechEnded, Started, WarningEvent
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.inference.engine import Engine
from streamer.inference.settings import EngineSettings
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.session.events import Mode
from streamer.session.messages import Audio, Flush, Start, Stop
from streamer.session.settings import Limits
from streamer.testing import ScriptedEngine, ScriptedScoring
from tests.faults.arena import LocalArena
from tests.faults.gates import SECRET_LINE, bearer, token
from tests.faults.peers import SECOND, TRANSPORTS
from tests.faults.servers import serving
from tests.inference.harness import ModelFactory
from tests.inference.models import GatedModel, entered
from tests.session.harness import S16, bursts
from tests.transports.carriers import NORMAL, Peer, calling, serving_all
from tests.transports.serving import scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("way", TRANSPORTS)
over_both = pytest.mark.parametrize("carrier", ["websocket", "grpc"])

PER_ADDRESS, PER_SUBJECT = 3, 2
LONGEST_S = 100
UTTERANCE = Audio(bursts(0.5, 1.0, 1.0).tobytes())
HALF_A_SECOND = Audio(bytes(16_000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalArena]:
    secrets: Path = tmp_path_factory.mktemp("limits") / "secrets"
    secrets.write_text(SECRET_LINE)
    async with serving(
        bearer(token(sub="somebody")),
        server={
            "max_sessions_per_address": PER_ADDRESS,
            "max_sessions_per_subject": PER_SUBJECT,
            "max_handshakes": 5,
            "handshake_timeout_s": 1.0,
        },
        access={"token_secrets_file": str(secrets), "max_token_life_s": LONGEST_S},
        limits={"idle_timeout_s": 0.6, "start_timeout_s": 0.6},
        session={"stall_timeout_s": 0},
    ) as arena:
        yield arena


# Sessions -----------------------------------------------------------------------------------------


@both
async def test_sessions_of_one_address(server: LocalArena, way: str) -> None:
    async with AsyncExitStack() as stack:
        for number in range(PER_ADDRESS):
            headers = bearer(token(sub=f"{way} {number}"))
            await stack.enter_async_context(server.peer(TRANSPORTS[number % 2], headers=headers))
        await server.refuses(way, ErrorCode.RATE_LIMITED, 429, headers=bearer(token(sub="one more")))
    await server.app.connections.wait_empty()
    async with server.peer(way) as peer:
        await peer.still_works()
    await server.app.connections.wait_empty()


@both
async def test_sessions_of_one_subject(server: LocalArena, way: str) -> None:
    headers = bearer(token(sub="carol"))
    async with AsyncExitStack() as stack:
        for number in range(PER_SUBJECT):
            await stack.enter_async_context(server.peer(TRANSPORTS[number], headers=headers))
        await server.refuses(way, ErrorCode.RATE_LIMITED, 429, headers=headers)
        async with server.peer(way, headers=bearer(token(sub="dave"))) as peer:
            await peer.still_works()
    await server.app.connections.wait_empty()


@both
async def test_the_life_of_a_token(server: LocalArena, way: str) -> None:
    async with server.peer(way, headers=bearer(token(ttl=LONGEST_S))) as peer:
        await peer.still_works()
    await server.refuses(way, ErrorCode.UNAUTHENTICATED, 401, headers=bearer(token(ttl=LONGEST_S + 1)))
    await server.app.connections.wait_empty()


async def test_handshakes_at_a_time(server: LocalArena) -> None:
    """Those that wait for a first message are in tests/transports/test_first_messages.py."""
    mute = [await asyncio.open_connection("127.0.0.1", server.app.port) for _ in range(4)]
    async with server.socket("v2") as peer:  # the last that may come
        await peer.start()
        await peer.hear("started")
        mute.append(await asyncio.open_connection("127.0.0.1", server.app.port))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.port)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        for _, each in [*mute, (reader, writer)]:
            each.close()
    await server.app.connections.wait_empty()


# Time ---------------------------------------------------------------------------------------------


@both
async def test_silence(server: LocalArena, way: str) -> None:
    async with server.peer(way) as peer:
        await peer.start()
        await peer.hear("started")
        for _ in range(6):
            await asyncio.sleep(0.2)  # in all twice the limit
            await peer.say({"type": "keepalive"})
        await peer.audio(SECOND)
        await peer.hear("segment")
        await peer.ended_with(ErrorCode.IDLE_TIMEOUT, "0.6 s")
    await server.app.connections.wait_empty()


@both
async def test_a_late_start(server: LocalArena, way: str) -> None:
    async with server.peer(way) as peer:
        await asyncio.sleep(0.2)
        await peer.still_works()
    async with server.peer(way) as peer:
        await peer.ended_with(ErrorCode.START_TIMEOUT, "0.6 s")
    await server.app.connections.wait_empty()


# What waits, and what fails -----------------------------------------------------------------------


def engine(app: App) -> ScriptedEngine:
    assert isinstance(app.engine, ScriptedEngine)
    return app.engine


def held(app: App) -> float:
    return app.registry.get_sample_value("streamer_clients_held_total") or 0.0


async def has_come(peer: Peer, frames: int) -> None:
    """The server has said so."""
    while not isinstance(event := await peer._next(), Ack) or event.received < frames:
        assert not peer.end


@over_both
async def test_audio_ahead_of_the_model(carrier: str) -> None:
    async with serving_all(limits={"audio_ahead_s": 1.0}) as (app, _), calling(app, carrier, Mode.SIMPLE) as peer:
        engine(app).is_holding = True
        await peer.say(Start(S16, chunk_ms=500), HALF_A_SECOND, HALF_A_SECOND)
        await has_come(peer, 16_000)
        assert held(app) == 0
        await peer.say(HALF_A_SECOND)
        await has_come(peer, 24_000)
        await peer.say(HALF_A_SECOND)  # perhaps the reader looks up from the next message only
        async with asyncio.timeout(10):
            while not held(app):
                await asyncio.sleep(0.01)
        engine(app).is_holding = False
        engine(app).release_all()
        await peer.say(Stop())
        await peer.hear(Finished)
        assert peer.heard[-1].processed == 32_000  # type: ignore[union-attr]


@over_both
@pytest.mark.parametrize("past", [0, 1])
async def test_messages_that_wait_for_a_stream_to_finish(carrier: str, past: int) -> None:
    most = 3
    settings = {"max_pending_messages": most}
    async with serving_all(limits=settings) as (app, _), calling(app, carrier, Mode.SEGMENTED) as peer:
        engine(app).is_holding = True
        await peer.say(Start(S16), UTTERANCE)
        await peer.hear(SpeechEnded)
        await peer.say(Stop(keep_open=True), *[Start(S16)] * (most - 1 + past), Stop())
        if not past:
            engine(app).is_holding = False
            await asyncio.sleep(0)
            engine(app).release_all()
        await peer.hear_the_end()
        assert peer.end == ("rate_limited" if past else NORMAL)
        assert [isinstance(event, Finished) for event in peer.heard].count(True) == (0 if past else most)


@over_both
@pytest.mark.parametrize("past", [0, 1])
@pytest.mark.parametrize("message", [Flush("f"), Start(S16)], ids=["flush", "start"])
async def test_as_many_messages_as_may_wait_by_default(carrier: str, message: Flush | Start, past: int) -> None:
    most = Limits().max_pending_messages
    limits = {"max_control_share": 100.0}  # what they may cost is a rule of its own
    async with serving_all(limits=limits) as (app, notes), calling(app, carrier, Mode.SEGMENTED) as peer:
        assert isinstance(app.scoring, ScriptedScoring)
        app.scoring.is_holding = True
        await peer.say(Start(S16), UTTERANCE, Flush("first"), *[message] * (most + past))
        if past:
            await peer.hear_the_end()
            assert peer.end == "rate_limited"
        else:
            await peer.say_badly()  # it is told at once: everything before it has come
            await peer.hear(Error)
            app.scoring.is_holding = False
            app.scoring.release_all()
            for _ in range(most + 1 if isinstance(message, Flush) else most):
                await peer.hear(Flushed if isinstance(message, Flush) else Finished)
            await peer.say(Stop())
            await peer.hear_the_end()
            assert peer.end == NORMAL
        assert [event.code for event in peer.heard if isinstance(event, Error)] == [
            "rate_limited" if past else "bad_request"
        ]
        assert not notes.broke


@over_both
async def test_interims_past_what_may_wait_for_the_model(carrier: str) -> None:
    model = GatedModel()
    parts = replace(scripted(), engine=Engine(ModelFactory(lambda: model), EngineSettings(max_pending_items=1)))
    settings = Settings(server={"port": 0}, grpc={"port": -1})
    async with (
        App(settings, parts=parts, grpc=GrpcAvailability.REQUIRED) as app,
        calling(app, carrier, Mode.SIMPLE) as other,
        calling(app, carrier, Mode.SEGMENTED) as peer,
    ):
        await other.say(Start(S16, chunk_ms=500), HALF_A_SECOND, HALF_A_SECOND)  # one runs, and one more may wait
        await entered(model)
        await other.hear(Started)
        while app.engine.depth.pending_items < 1:
            await asyncio.sleep(0.01)
        await peer.say(Start(S16, interim_results=True), Audio(bursts(0.0, 3.0).tobytes()))
        await peer.hear(WarningEvent)
        model.gate.set()
        for each in (other, peer):
            await each.say(Stop())
            await each.hear_the_end()
            assert each.end == NORMAL
        mine, others = (
            [event.code for event in each.heard if isinstance(event, WarningEvent)] for each in (peer, other)
        )
        assert [code for code in mine if code != "lagging"] == ["interims_shed"]  # lagging: a busy machine
        assert "interims_shed" not in others
        assert app.registry.get_sample_value("streamer_warnings_total", {"code": "interims_shed"}) == 1


def failing(jobs: int) -> ScriptedEngine:
    """An engine that fails so many jobs, answers one, and begins anew."""
    count = 0

    def answer(job: Job) -> Outcome:
        nonlocal count
        count += 1
        fails = bool(count % (jobs + 1))
        return JobFailed(ErrorCode.MODEL_ERROR, "no") if fails else Output.of({"count": len(job.samples)})

    return ScriptedEngine(answer)


@over_both
@pytest.mark.parametrize("past", [0, 1])
async def test_failures_of_the_model_in_a_row(carrier: str, past: int) -> None:
    """The limit is the first number that is too many."""
    most = 3
    settings = {"max_model_failures": most}
    async with serving_all(limits=settings) as (app, _), calling(app, carrier, Mode.SIMPLE) as peer:
        engine(app)._answer = failing(most - 1 + past)._answer
        await peer.say(Start(S16, chunk_ms=500))
        if past:
            await peer.say(*[HALF_A_SECOND] * most)
        else:
            for _ in range(2 * most):
                await peer.say(HALF_A_SECOND)
                await peer.hear(Ack)
            await peer.say(Stop())
        await peer.hear_the_end()
        assert peer.end == ("model_error" if past else NORMAL)
        assert len([event for event in peer.heard if isinstance(event, Error)]) == (
            most + 1 if past else 2 * (most - 1)
        )
