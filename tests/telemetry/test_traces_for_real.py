"""Real processes and a real OTLP receiver: one trace from the client through the server to the model's worker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager

import aiohttp
import grpc.aio
import pytest

from streamer.client.grpc_transport import METHOD
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.samples import sample
from streamer.testing import s16le, speech
from tests.cli.serving import Server, environment, served
from tests.telemetry.collector import Collector, grpc_collector, http_collector

pytest.importorskip("opentelemetry.sdk")

PROCESS = ("--set", "model.executor=process", "--set", "model.delay=0.01")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def otel(collector: Collector, protocol: str = "http/protobuf") -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


async def speak(
    server: Server, path: str, start: dict[str, object], headers: dict[str, str] | None = None
) -> list[dict[str, object]]:
    """Two spoken sentences, and all that is answered."""
    stop = {"type": "stop"} if "v2" in path else {"request": "stop", "disconnect": True}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.websocket_url + path, headers=headers) as socket,
    ):
        await socket.send_str(json.dumps(start))
        data = s16le(speech())
        for at in range(0, len(data), 3_200):
            await socket.send_bytes(data[at : at + 3_200])
        await socket.send_str(json.dumps(stop))
        return [message.json() async for message in socket]


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def client_says(*arguments: str, **variables: str) -> str:
    command = [sys.executable, "-m", "streamer", "client", "--chunk-size", "3200", *arguments]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("receiver", "protocol"), [(http_collector, "http/protobuf"), (grpc_collector, "grpc")], ids=["http", "grpc"]
)
def test_one_trace_goes_from_the_client_through_the_server_to_the_worker(
    receiver: Callable[[], AbstractContextManager[Collector]], protocol: str
) -> None:
    with receiver() as collector:
        variables = otel(collector, protocol)
        with served(*PROCESS, **variables) as server:
            said = client_says("-i", str(sample()), "-a", f"{server.websocket_url}/api/v2/segmented", **variables)
            collector.wait_for("client", "session", "segment", "emit", "batch", "model")
            server.signal(signal.SIGINT)
            server.ended()
    print("\n".join(collector.tree()))
    [client] = collector.named("client")
    [session] = collector.named("session")
    segments = collector.named("segment")
    assert client.trace in said, "the client prints the id of its trace"
    assert (client.service, session.service) == ("streamer-client", "streamer")
    assert session.parent == client.id
    assert len(segments) == 2
    assert {span.parent for span in (*segments, *collector.named("handshake"))} == {session.id}
    for segment in segments:
        children = [span.name for span in collector.spans if span.parent == segment.id and span.name != "batch"]
        assert sorted(children) == ["decode", "emit", "inference", "queue", "vad"]
    batches = collector.named("batch")
    assert {link for batch in batches for link in batch.links} == {segment.id for segment in segments}
    assert {link for span in collector.named("inference") for link in span.links} == {batch.id for batch in batches}
    assert {span.parent for span in collector.named("model")} == {batch.id for batch in batches}
    assert server.process.pid not in {span.attributes["process.pid"] for span in collector.named("model")}
    assert {span.trace for span in collector.spans} == {client.trace}


V1_FORMAT = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False}
V2 = {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}}
GRPC_START = pb.ClientMessage(
    start=pb.Start(format=pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1))
).SerializeToString()
SAID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("/api/v1/segmented", {"request": "start", "trace_id": SAID, "format": V1_FORMAT}),
        ("/api/v2/segmented", V2 | {"traceparent": SAID}),
    ],
    ids=["v1", "v2"],
)
async def test_a_client_that_can_set_no_header_says_its_trace_in_the_start(path: str, start: dict[str, object]) -> None:
    with http_collector() as collector, served(**otel(collector)) as server:
        events = await speak(server, path, start)
        collector.wait_for("session", "segment")
        [session] = collector.named("session")
        assert (session.trace, session.parent) == (TRACE, PARENT)
        if "v2" in path:
            assert events[0]["traceparent"] == f"00-{TRACE}-{session.id}-01"


async def test_a_proxys_header_and_grpcs_metadata_say_it_too() -> None:
    with http_collector() as collector, served("--grpc-port", "-1", **otel(collector)) as server:
        await speak(server, "/api/v2/segmented", V2, {"traceparent": SAID})
        collector.wait_for("session", "handshake")
        assert server.process.stderr is not None
        target = server.process.stderr.readline().split()[-1].removeprefix("grpc://")
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.stream_stream(METHOD)(iter([GRPC_START]), metadata=(("traceparent", SAID),))
            started = pb.ServerMessage.FromString(await call.read()).started
            await call.read()
        with collector.came:
            assert collector.came.wait_for(lambda: len(collector.named("session")) == 2, 20)
        sessions = collector.named("session")
        assert {(span.trace, span.parent) for span in sessions} == {(TRACE, PARENT)}
        assert {span.attributes["streamer.transport"] for span in sessions} == {"websocket", "grpc"}
        assert started.traceparent.startswith(f"00-{TRACE}-")


async def test_garbage_for_a_trace_begins_a_new_one() -> None:
    with http_collector() as collector, served(**otel(collector)) as server:
        events = await speak(server, "/api/v2/segmented", V2 | {"traceparent": "00-0000-evil\n-zz"})
        collector.wait_for("session")
        [session] = collector.named("session")
        assert session.parent == ""
        assert events[0]["traceparent"] == f"00-{session.trace}-{session.id}-01"
