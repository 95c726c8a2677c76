"""Which of several models a request gets: by its path, by metadata, by a router, or by a dialect's own parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator

import aiohttp
import grpc.aio
import pytest

import streamer
from streamer.access import new_key
from streamer.access.keys import hash_key
from streamer.app import App
from streamer.client import HandshakeRefused, Started
from streamer.client.grpc_transport import METHOD
from streamer.config import Settings
from streamer.endpoints import session_settings
from streamer.errors import ErrorCode
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame
from tests.transports.named_models import LOADS
from tests.transports.serving import SECOND
from tests.transports.several import (
    ENGLISH_AND_ANY,
    RATE,
    ROUTER,
    answers,
    fetched,
    forget,
    named,
    refused,
    serving,
    spoken,
)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    forget()


async def test_each_model_is_served_at_its_own_path_and_the_first_one_without_a_name() -> None:
    async with serving() as app:
        for path, model, rate in (
            ("/api/v2/simple", "english", 16_000),
            ("/api/v2/models/english/simple", "english", 16_000),
            ("/api/v2/models/any/simple", "any", 8_000),
        ):
            said = await spoken(app, path)
            assert said[0]["model"] == {"name": model, "sample_rate": rate}
            assert answers(said) == [{"by": model}] * 2
            assert [event["end_time"] for event in said if event["type"] == "segment"] == [0.5, 1.0]


async def test_clients_of_v1_get_the_default_model_or_one_by_its_path() -> None:
    async with serving(server={"model": "any"}) as app:
        assert {answer["by"] for answer in answers(await spoken(app, "/api/v1/simple"))} == {"any"}
        assert {answer["by"] for answer in answers(await spoken(app, "/api/v1/models/english/simple"))} == {"english"}


async def test_a_body_by_post_goes_to_the_model_of_its_path() -> None:
    async with serving() as app, aiohttp.ClientSession() as http:
        form = "encoding=pcm_s16le&sample_rate=16000&channels=1"
        for path, model in (("/api/v2/simple", "english"), ("/api/v2/models/any/simple", "any")):
            async with http.post(f"{app.url}{path}?{form}", data=SECOND) as answer:
                said = [json.loads(line) for line in (await answer.text()).splitlines()]
            assert said[0]["model"]["name"] == model
            assert answers(said)[0] == {"by": model}
            assert said[-1]["processed"] == RATE
        async with http.post(f"{app.url}/api/v2/models/klingon/simple?{form}", data=SECOND) as answer:
            assert answer.status == 404


async def test_a_call_over_grpc_names_its_model_in_its_metadata() -> None:
    async with serving() as app:
        for path, model in (("", "english"), ("/models/any", "any"), ("/models/english", "english")):
            async with streamer.connect(f"{app.grpc_url}{path}", sample_rate=RATE) as stream:
                await stream.send(SECOND)
                await stream.stop()
                said = [event async for event in stream]
            assert isinstance(said[0], Started)
            assert said[0].model.name == model
        with pytest.raises(HandshakeRefused) as error:
            async with streamer.connect(f"{app.grpc_url}/models/klingon", sample_rate=RATE):
                pass
    assert error.value.code is ErrorCode.UNKNOWN_MODEL
    assert "expected one of english, any, got 'klingon'" in error.value.message


async def test_an_unknown_name_is_answered_with_404_and_the_names_there_are() -> None:
    async with serving() as app:
        status, body = await refused(app, "/api/v2/models/klingon/segmented")
        assert (await fetched(app, "/api/v2/models/english/nonsense"))[0] == 404
        assert LOADS == {"english": 1, "any": 1}
    assert status == 404
    assert body == {
        "code": "unknown_model",
        "message": "model: expected one of english, any, got 'klingon'",
        "retryable": False,
    }


async def test_strangers_do_not_learn_the_names() -> None:
    secret, key = new_key("someone")
    access = {"keys": [f"{key.subject}:{hash_key(secret)}"], "anonymous": []}
    async with serving(access=access) as app:
        for name in ("klingon", "english"):
            status, body = await refused(app, f"/api/v2/models/{name}/simple")
            assert (status, body["code"]) == (401, "unauthenticated")
            assert "any" not in body["message"]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"}) as http:
            assert (await http.get(f"{app.url}/api/v2/models/klingon/simple")).status == 404


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_router_selects_the_model_of_a_request_that_names_none(version: str) -> None:
    models = {"any": named("any", sample_rate=8_000), "english": named("english")}
    async with serving(models, server={"router": ROUTER}) as app:
        path = f"/api/{version}/simple"
        assert answers(await spoken(app, f"{path}?language=en"))[0]["by"] == "english"
        assert answers(await spoken(app, f"{path}?language=fr"))[0]["by"] == "any"
        assert answers(await spoken(app, f"/api/{version}/models/any/simple?language=en"))[0]["by"] == "any"
        for language, status, code in (
            ("tlh", 404, "unknown_model"),
            ("refused", 400, "bad_request"),
            ("broken", 500, "internal"),
            ("wrong", 500, "internal"),
        ):
            told = await refused(app, f"{path}?language={language}")
            assert (told[0], told[1]["code"]) == (status, code)
        assert app.admission.active == 0


async def test_a_router_sees_the_metadata_of_a_call_over_grpc() -> None:
    models = {"any": named("any"), "english": named("english")}
    start = pb.Start(format=pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=RATE, channels=1))
    async with (
        serving(models, server={"router": ROUTER}) as app,
        grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel,
    ):
        for language, model in (("en", "english"), ("fr", "any")):
            call = channel.stream_stream(METHOD)(metadata=(("language", language),))
            await call.write(pb.ClientMessage(start=start).SerializeToString())
            assert pb.ServerMessage.FromString(await call.read()).started.model.name == model
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass


class WithDialect(App):
    """A server with a dialect that has a parameter `model` of its own."""

    def _endpoints(self) -> list[Endpoint]:
        settings = session_settings(self.settings, self.model, Mode.SIMPLE)

        def accept(opening: Opening) -> Accepted[WebSocketFrame]:
            model = self._parts.model_of(opening, dict(opening.query).get("model", ""))
            return Accepted(V2Codec(Mode.SIMPLE, model.sample_rate), model=model.name)

        return [*super()._endpoints(), Endpoint("/dialect/v2/simple", settings, accept, ("streamer.v2",))]


async def test_a_dialect_selects_a_model_by_a_parameter_of_its_own() -> None:
    async with WithDialect(Settings(models=ENGLISH_AND_ANY, server={"port": 0})) as app:
        for query, model, rate in (("", "english", 16_000), ("?model=any", "any", 8_000)):
            said = await spoken(app, f"/dialect/v2/simple{query}")
            assert said[0]["model"] == {"name": model, "sample_rate": rate}
            assert {answer["by"] for answer in answers(said)} == {model}
            assert said[-1]["processed"] == RATE
        assert (await refused(app, "/dialect/v2/simple?model=klingon"))[0] == 404


async def test_a_server_with_one_model_has_it_for_every_name_of_a_dialect() -> None:
    async with WithDialect(Settings(server={"port": 0})) as app:
        assert (await spoken(app, "/dialect/v2/simple?model=whatever"))[0]["model"]["name"] == "stub"
