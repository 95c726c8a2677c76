"""Several models in one server: each by its name, and whatever becomes of one leaves the others unmoved."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

import streamer
from streamer.app import App
from streamer.client import HandshakeRefused, Segment
from streamer.config import Settings
from streamer.connection.hosted_model import ModelState
from streamer.errors import ConfigError, ErrorCode, ModelLoadError
from streamer.inference.engine import Engine
from streamer.parts import build
from streamer.telemetry.scrape import Scrape
from streamer.testing import ManualClock
from tests.transports.named_models import ALIVE, BROKEN, GATES, LOADS
from tests.transports.serving import SECOND, V2_START, V2_STOP, dialled, events
from tests.transports.several import (
    ENGLISH_AND_ANY,
    MORTAL,
    RATE,
    answers,
    fetched,
    forget,
    named,
    refused,
    serving,
    spoken,
    until,
)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    forget()


# One is full, broken or gone; the others are unmoved ----------------------------------------------------


async def test_while_one_model_is_overloaded_the_other_takes_sessions_and_answers() -> None:
    GATES["slow"] = threading.Event()
    models = {"slow": named("slow", engine={"max_pending_items": 1}), "quick": named("quick")}
    async with serving(models) as app, dialled(app, "/api/v2/models/slow/simple") as stuck:
        await stuck.send_json(V2_START)
        await stuck.send_bytes(4 * SECOND)
        await until(lambda: app.models is not None and app.models.named("slow").depth.pending_items > 1)

        status, body = await refused(app, "/api/v2/models/slow/simple")
        assert (status, body["code"]) == (503, "overloaded")
        assert body["message"] == "model 'slow': the inference queue is full"
        assert body["retry_after_s"] > 0
        with pytest.raises(HandshakeRefused) as error:
            async with streamer.connect(f"{app.grpc_url}/models/slow", sample_rate=RATE):
                pass
        assert error.value.code is ErrorCode.OVERLOADED

        streams = [spoken(app, "/api/v2/models/quick/simple") for _ in range(10)]
        assert [answers(said) for said in await asyncio.gather(*streams)] == [[{"by": "quick"}] * 2] * 10
        assert (await fetched(app, "/readyz"))[0] == 200
        GATES["slow"].set()
        await stuck.send_json(V2_STOP)
        said = await events(stuck)
        assert len(answers(said)) == 8
        assert said[-1]["processed"] == 4 * RATE


async def test_the_sessions_of_one_model_do_not_take_the_places_of_another() -> None:
    models = {"few": named("few", max_sessions=1), "many": named("many")}
    async with serving(models) as app, dialled(app, "/api/v2/models/few/simple"):
        await until(lambda: app.admission.active == 1)
        status, body = await refused(app, "/api/v2/models/few/simple")
        assert (status, body["message"]) == (503, "model 'few' has reached its limit of 1 sessions")
        refusals = Scrape.parse((await fetched(app, "/metrics"))[1], 0.0).by("model_refused_total", "model")
        assert refusals == {"few": 1, "many": 0}
        assert answers(await spoken(app, "/api/v2/models/many/simple"))


async def test_when_the_workers_of_one_model_die_and_cannot_be_replaced_the_other_is_unmoved(tmp_path: Path) -> None:
    barred = str(tmp_path / "barred")
    mortal = {"model": MORTAL, "name": "mortal", "barred": barred}
    other = {"model": MORTAL, "name": "other", "barred": str(tmp_path / "never")}
    async with serving({"mortal": mortal, "other": other}) as app:
        assert app.models is not None
        before = answers(await spoken(app, "/api/v2/models/other/simple"))
        async with dialled(app, "/api/v2/models/other/simple") as living:
            await living.send_json(V2_START)
            async with dialled(app, "/api/v2/models/mortal/simple") as dying:
                await dying.send_json({**V2_START, "options": {"die": True}})
                await dying.send_bytes(SECOND)
                await until(lambda: app.models is not None and not app.models.named("mortal").readiness.ready)
                status, body = await refused(app, "/api/v2/models/mortal/simple")
                assert (status, body["message"]) == (503, "model 'mortal': no model worker is available")
                await living.send_bytes(SECOND)
                await living.send_json(V2_STOP)
                assert answers(await events(living)) == before  # the same worker
                status, ready = await fetched(app, "/readyz")
                assert status == 200
                assert ready["models"]["other"] == "ready"
                assert ready["models"]["mortal"].startswith("failed: worker 0")
                assert (await fetched(app, "/readyz?model=mortal"))[0] == 503
                assert (await fetched(app, "/readyz?model=other"))[0] == 200
                assert (await fetched(app, "/readyz?model=klingon"))[0] == 404
                async with grpc.aio.insecure_channel(app.grpc_url.removeprefix("grpc://")) as channel:
                    assert await health(channel, "models/mortal") == HealthCheckResponse.NOT_SERVING
                    for service in ("models/other", "", "streamer.v2.Streamer"):
                        assert await health(channel, service) == HealthCheckResponse.SERVING
                    with pytest.raises(grpc.aio.AioRpcError, match="unknown service 'models/klingon'"):
                        await health(channel, "models/klingon")


async def test_who_watches_the_health_of_one_model_over_grpc_hears_of_its_change(tmp_path: Path) -> None:
    mortal = {"model": MORTAL, "name": "mortal", "barred": str(tmp_path / "barred")}
    async with (
        serving({"mortal": mortal, "any": named("any")}) as app,
        grpc.aio.insecure_channel(app.grpc_url.removeprefix("grpc://")) as channel,
        dialled(app, "/api/v2/models/mortal/simple") as dying,
    ):
        watch = HealthStub(channel).Watch(HealthCheckRequest(service="models/mortal"))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        await dying.send_json({**V2_START, "options": {"die": True}})
        await dying.send_bytes(SECOND)
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def health(channel: grpc.aio.Channel, service: str) -> object:
    return (await HealthStub(channel).Check(HealthCheckRequest(service=service))).status


@pytest.mark.parametrize(("fault", "code"), [("fail", "model_error"), ("hang", "model_timeout")])
async def test_a_model_that_fails_or_hangs_costs_its_own_clients_their_segment_and_nobody_else(
    fault: str, code: str, tmp_path: Path
) -> None:
    never = str(tmp_path / "never")
    time_s = 0.5 if fault == "hang" else 60.0
    bad = {"model": MORTAL, "name": "bad", "barred": never, "timeout_floor_s": time_s, "timeout_factor": 0.0}
    good = {"model": MORTAL, "name": "good", "barred": never}
    async with serving({"bad": bad, "good": good}) as app, dialled(app, "/api/v2/models/good/simple") as living:
        await living.send_json(V2_START)
        await living.send_bytes(SECOND)
        said = await spoken(app, "/api/v2/models/bad/simple", options={fault: True})
        assert {event["code"] for event in said if event["type"] == "error"} == {code}
        await living.send_bytes(SECOND)
        await living.send_json(V2_STOP)
        heard = await events(living)
    assert len(answers(heard)) == 4
    assert len({answer["pid"] for answer in answers(heard)}) == 1
    assert heard[-1]["failed"] == 0


async def test_a_model_that_fails_to_load_on_first_use_fails_for_its_own_clients_only() -> None:
    BROKEN.add("bad")
    models = {"good": named("good"), "bad": named("bad", load="first_use")}
    async with serving(models) as app:
        status, body = await refused(app, "/api/v2/models/bad/simple")
        assert (status, body["code"], body["message"]) == (500, "model_error", "model 'bad' could not be loaded")
        assert body["retryable"]
        assert answers(await spoken(app, "/api/v2/models/good/simple"))
        status, ready = await fetched(app, "/readyz")
        assert (status, ready["models"]["good"]) == (200, "ready")
        assert "no weights for bad" in ready["models"]["bad"]
        BROKEN.clear()
        await until(lambda: app.models is not None and app.models.named("bad")._retry_at <= app._clock.now())
        assert answers(await spoken(app, "/api/v2/models/bad/simple"))


@pytest.mark.parametrize("load", ["load", "build"])
async def test_a_server_does_not_start_if_a_model_of_the_start_cannot_be_loaded(load: str) -> None:
    if load == "load":
        BROKEN.add("bad")
    bad = named("bad") if load == "load" else {"model": "no.such:model"}
    with pytest.raises(ModelLoadError) as error:
        async with serving({"good": named("good"), "bad": bad}):
            pass
    assert error.value.message.startswith("models.bad: ")
    assert "models.bad: models.bad" not in error.value.message


async def test_two_sections_may_name_one_instance_with_attributes_of_their_own() -> None:
    same = "tests.transports.named_models:INSTANCE"
    models = {"one": {"model": same, "max_batch_size": 2}, "two": {"model": same, "max_batch_size": 5}}
    async with serving(models) as app:
        assert app.models is not None
        engines = [app.models.named(name)._engine for name in models]
        assert [engine.model.max_batch_size for engine in engines if isinstance(engine, Engine)] == [2, 5]


def test_a_wrong_parameter_names_the_section_of_its_model() -> None:
    settings = Settings(models={"good": named("good"), "bad": named("bad", tempo=3)})
    with pytest.raises(ConfigError) as error:
        build(settings)
    assert error.value.field == "models.bad.tempo"


# Loaded on first use, let go when idle ------------------------------------------------------------------


async def test_first_callers_over_all_transports_load_a_model_once_and_wait_for_it() -> None:
    models = {"good": named("good"), "late": named("late", load="first_use")}
    async with serving(models) as app:
        assert LOADS == {"good": 1}
        sockets = [spoken(app, "/api/v2/models/late/simple") for _ in range(8)]

        async def called() -> list[object]:
            async with streamer.connect(f"{app.grpc_url}/models/late", sample_rate=RATE, mode="simple") as stream:
                await stream.send(SECOND)
                await stream.stop()
                return [event.output async for event in stream if isinstance(event, Segment)]

        said = await asyncio.gather(*sockets)
        assert [answers(each) for each in said] == [[{"by": "late"}] * 2] * 8
        assert await called()
    assert LOADS == {"good": 1, "late": 1}


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_an_idle_model_leaves_the_memory_and_comes_back(executor: str, tmp_path: Path) -> None:
    clock = ManualClock()
    late = named("late", load="first_use", keep_s=60)
    if executor == "process":
        late = {"model": MORTAL, "name": "late", "barred": str(tmp_path / "never"), "load": "first_use", "keep_s": 60}
        late["load_wait_s"] = 300
    settings = Settings(models={"good": named("good"), "late": late}, server={"port": 0})
    parts = build(settings)
    assert parts.models is not None
    model = parts.models.named("late")
    model._clock = clock
    async with App(settings, parts=parts) as app:
        assert (await fetched(app, "/readyz"))[1]["models"] == {"good": "ready", "late": "unloaded"}
        first = answers(await spoken(app, "/api/v2/models/late/simple"))
        await until(lambda: not model.sessions)
        clock.advance(59)
        assert model.is_loaded
        clock.advance(1)
        await until(lambda: model.state is ModelState.UNLOADED)
        assert model.depth.workers_idle == 0
        if executor == "thread":
            gc.collect()
            assert "late" not in {model.name for model in ALIVE}
        again = answers(await spoken(app, "/api/v2/models/late/simple"))
        assert [answer["by"] for answer in again] == [answer["by"] for answer in first]
        if executor == "process":
            assert again[0]["pid"] != first[0]["pid"]
        else:
            assert LOADS["late"] == 2


# Every signal names the model -----------------------------------------------------------------------------


async def test_the_information_has_every_model() -> None:
    async with serving() as app:
        _, info = await fetched(app, "/api/v2/info")
    assert info["model"] == {"name": "english", "sample_rate": 16_000}
    assert info["models"] == [info["model"], {"name": "any", "sample_rate": 8_000}]


async def test_the_metrics_of_each_model_are_its_own() -> None:
    models = {**ENGLISH_AND_ANY, "late": named("late", load="first_use")}
    async with serving(models) as app:
        await spoken(app, "/api/v2/models/english/simple")
        for _ in range(2):
            await spoken(app, "/api/v2/models/any/simple")
        await refused(app, "/api/v2/models/klingon/simple")
        _, text = await fetched(app, "/metrics")
    scrape = Scrape.parse(text, 0.0)
    assert scrape.by("sessions_started_total", "model") == {"english": 1, "any": 2, "late": 0}
    assert scrape.by("audio_received_seconds_total", "model") == {"english": 1, "any": 2, "late": 0}
    assert scrape.by("inference_batch_size_sum", "model")["any"] == 4
    assert scrape.sum("workers", state="idle", model="english") == 1
    assert scrape.sum("workers", model="late") == 0
    assert scrape.sum("model_state", state="ready") == 2
    assert scrape.sum("model_state", state="unloaded", model="late") == 1
    assert scrape.sum("handshakes_total", outcome="unknown_model") == 1
    assert scrape.sum("handshakes_total", outcome="accepted") == 3
    assert scrape.by("build_info", "model") == {"english": 1, "any": 1, "late": 1}
    assert scrape.samples["streamer_ready"] == {frozenset(): 1.0}


async def test_a_server_with_one_model_has_the_series_that_it_had() -> None:
    async with App(Settings(server={"port": 0}, model={})) as app:
        _, text = await fetched(app, "/metrics")
    scrape = Scrape.parse(text, 0.0)
    assert "streamer_model_state" not in scrape.samples
    assert "streamer_model_refused_total" not in scrape.samples
    labelled = {name for name, series in scrape.samples.items() if any("model" in dict(labels) for labels in series)}
    assert labelled == {"streamer_build_info"} | {
        f"streamer_inference_seconds_{end}" for end in ("bucket", "count", "sum")
    }


async def test_a_session_record_names_the_model(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "streamer.session"):
        async with serving() as app:
            await spoken(app, "/api/v2/models/any/simple")
    [record] = [record for record in caplog.records if record.message == "session closed"]
    assert record.facts.model == "any"  # type: ignore[attr-defined]


async def test_a_drain_says_how_many_sessions_each_model_has_and_ends_all(caplog: pytest.LogCaptureFixture) -> None:
    drain = {"lag_s": 0, "soft_s": 0, "spread_s": 0}
    with caplog.at_level("INFO", "streamer.app"):
        async with (
            serving(drain=drain) as app,
            dialled(app, "/api/v2/models/any/simple") as one,
            dialled(app, "/api/v2/simple") as other,
        ):
            for socket in (one, other):
                await socket.send_json(V2_START)
                await socket.send_bytes(SECOND)
            await until(lambda: app.models is not None and len(app.models.sessions) == 2)
            await app.drain(lag_s=0.0)
            assert [(await events(socket))[-1]["reason"] for socket in (one, other)] == ["drained", "drained"]
    assert "sessions by model: english: 1, any: 1" in caplog.text
